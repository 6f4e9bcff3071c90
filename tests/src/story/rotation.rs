//! A device changes its key: everything works again with the new one, and nothing with the old one.

use super::{Actor, Story};
use crate::windlass::Windlass;
use anyhow::Context;
use std::fs;
use windlass_testnet::chain::DEV_ACCOUNTS;

impl Story {
    /// A device whose key can pay for its own transactions: one of the chain's funded accounts.
    pub async fn enrol_funded(&self, name: &str, account: usize) -> anyhow::Result<Actor> {
        let keys = self.testnet.directory().join("keys");
        let (secret, key) = (keys.join(format!("{name}.hex")), keys.join(format!("{name}.json")));
        fs::write(&secret, DEV_ACCOUNTS[account].key.to_string())?;
        let (from, to) = (secret.to_string_lossy(), key.to_string_lossy());
        self.operator.done(&["key", "import", "--out", &to, "--secret-file", &from]).await?;
        self.enrol(name).await
    }

    /// The device replaces its key by a new one; returns it with the new key, its id as before.
    pub async fn rotate(&self, device: &Actor) -> anyhow::Result<Actor> {
        let fresh = self.stranger(&format!("rotated-{}", device.id))?;
        let key = fresh.files.key.to_string_lossy().into_owned();
        let done = device.windlass.done(&["device", "rotate", "--new-key", &key]).await?;
        self.testnet.wait_served(done["block"].as_u64().context("no block")?).await?;
        let profile = fs::read_to_string(&fresh.files.profile)?;
        fs::write(&fresh.files.profile, format!("{profile}device_id = \"{}\"\n", device.id))?;
        let windlass = Windlass::new(&fresh.files.profile)?;
        Ok(Actor { id: device.id.clone(), files: fresh.files, windlass })
    }

    /// Publishes where that must be refused; returns the exit code and the reason.
    pub async fn refused_publication(&self, device: &Actor) -> anyhow::Result<(i32, String)> {
        let to = self.site.address().to_string();
        let arguments = ["publish", "--service", super::SERVICE, "--to", &to, "--mode", "private"];
        let outcome = device.windlass.run(&arguments).await?;
        Ok((outcome.code, outcome.stderr))
    }
}
