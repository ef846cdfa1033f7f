//! The accounts for which a batch writes notifications and viewer states.

use std::sync::Arc;

use crate::local::{Local, LocalDids};
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::settings::config::{Accounts, Switches};

/// The switches, with the local accounts that they refer to.
pub struct Scope {
    switches: Switches,
    /// Empty if no switch refers to them.
    local: Arc<LocalDids>,
}

impl Scope {
    pub fn new(client: &mut Client, switches: Switches, local: &Local) -> Result<Scope, ApplyError> {
        let local = match switches.use_local() {
            true => local.current(client)?,
            false => Arc::default(),
        };
        Ok(Scope { switches, local })
    }

    /// For a transaction that only deletes.
    pub fn none() -> Scope {
        Scope {
            switches: Switches {
                notifications: Accounts::None,
                viewer_states: Accounts::None,
                generic_records: false,
            },
            local: Arc::default(),
        }
    }

    /// The number that the local accounts must still have at the commit.
    pub fn number(&self) -> Option<i64> {
        self.switches.use_local().then(|| self.local.number())
    }

    pub fn notifies(&self, recipient_did: &str) -> bool {
        self.is_one_of(self.switches.notifications, recipient_did)
    }

    pub fn has_states_of(&self, viewer_did: &str) -> bool {
        self.is_one_of(self.switches.viewer_states, viewer_did)
    }

    pub fn has_all_states(&self) -> bool {
        self.switches.viewer_states == Accounts::All
    }

    fn is_one_of(&self, accounts: Accounts, did: &str) -> bool {
        match accounts {
            Accounts::All => true,
            Accounts::Local => self.local.contains(did),
            Accounts::None => false,
        }
    }
}
