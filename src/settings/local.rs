//! LOCAL_DIDS: accounts that count as local although none of the AppView's tables names them.

use std::collections::BTreeSet;

use crate::decode::is_did;
use crate::settings::list::{items, list};
use crate::settings::validate::Check;

const VARIABLE: &str = "LOCAL_DIDS";

/// The list, or the file that holds it.
#[derive(Clone)]
pub struct LocalSetting(String);

impl LocalSetting {
    pub fn new(check: &mut Check, value: &str) -> LocalSetting {
        let setting = LocalSetting(value.trim().to_owned());
        if let Err(reason) = setting.read() {
            check.faults.push(reason);
        }
        setting
    }

    /// The DIDs; of a file, those that it holds now.
    ///
    /// # Errors
    ///
    /// Names the setting, and what about it is unusable.
    pub fn read(&self) -> Result<BTreeSet<String>, String> {
        let text = list(VARIABLE, &self.0)?;
        let did = |item: &str| match is_did(item) {
            true => Ok(item.to_owned()),
            false => Err(format!("{VARIABLE} is unusable: {item:?} is not a DID")),
        };
        items(&text).map(did).collect()
    }
}
