//! Notifications and viewer states for the accounts that the AppView serves only.

mod scope;
