//! The program as a process, with wrong input of all kinds: one line that says what, where and what to do, the right
//! exit code, and nothing lost or left behind.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use windlass_keyfile::{Strength, create};
use windlass_protocol::spec::{ChainSpec, ContractPin, Contracts, FinalityRule, Fraction, SignedSpec};
use windlass_protocol::{B256, SecretKey};

const NODE: &str = "/ip4/127.0.0.1/tcp/1/p2p/16Uiu2HAkvTExAhwvBXgD9hnAq5iekfzVvZTjYEQpUjjqgrRjaEZU";

/// A user's folder, with no environment but its own.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
        command.args(line.split(' ')).current_dir(self.0.path()).env_clear().env("HOME", self.0.path());
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// Runs what must fail, and gives its one line.
    fn refused(&self, code: i32, line: &str) -> String {
        let output = self.run(line);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(output.stdout.is_empty(), "{line}: {}", String::from_utf8_lossy(&output.stdout));
        assert_eq!(said.lines().count(), 1, "{line}: {said}");
        assert!(said.starts_with("windlass: ") && !said.contains("panicked"), "{line}: {said}");
        said
    }

    /// With a key file, its passphrase, and a chain spec signed by that key.
    fn furnished() -> Self {
        let desk = Self::new();
        let key = SecretKey::from_bytes(&[7; 32]).unwrap();
        create(&desk.path("key.json"), &key, "correct horse", Strength::Light).unwrap();
        desk.write("passphrase", "correct horse\n");
        desk.write("chain.spec", SignedSpec::sign(&spec(&key), &key).to_bytes());
        let publisher = key.address();
        desk.write(
            "windlass.toml",
            format!(
                "spec = 'chain.spec'\npublisher = '{publisher}'\nkey = 'key.json'\npassphrase_file = 'passphrase'\n\
                 nodes = ['{NODE}']\nstate_dir = 'state'\n"
            ),
        );
        desk
    }
}

fn spec(key: &SecretKey) -> ChainSpec {
    ChainSpec {
        version: 1,
        chain_id: 31_337,
        genesis_hash: B256::repeat_byte(1),
        contracts: Contracts {
            registry: ContractPin { address: key.address().0, code_hash: B256::repeat_byte(3) },
            ..Contracts::default()
        },
        deploy_block: 1,
        committee: vec![key.address().0],
        head_interval: 1,
        finality: FinalityRule::Tag,
        max_finality_lag: 60,
        trusting_period: 600,
        epoch_length: 60,
        stake_age: 10,
        unbonding_period: 1_800,
        fault_fraction: Fraction { numerator: 1, denominator: 2 },
        dev: true,
        date: 1_700_000_000,
    }
}

/// A loopback URL where nobody listens.
fn closed_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_key_is_made_once_and_read_back() {
    let desk = Desk::new();
    desk.write("passphrase", "correct horse");
    let made = desk.run("key new --out key.json --light --passphrase-file passphrase --json");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    let shown = desk.run("address --key key.json");
    assert_eq!(String::from_utf8(shown.stdout).unwrap().trim(), made["address"].as_str().unwrap());
    let before = std::fs::read(desk.path("key.json")).unwrap();
    let said = desk.refused(2, "key new --out key.json --light --passphrase-file passphrase");
    assert!(said.contains("key.json") && said.contains("not overwritten"), "{said}");
    assert_eq!(std::fs::read(desk.path("key.json")).unwrap(), before);
}

#[test]
fn an_imported_key_is_the_same_key() {
    let desk = Desk::new();
    desk.write("passphrase", "correct horse");
    desk.write("secret", "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80\n");
    let line = "key import --out key.json --light --secret-file secret --passphrase-file passphrase";
    let made = desk.run(line);
    let said = String::from_utf8(made.stdout).unwrap();
    assert!(said.contains("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"), "{said}");
    desk.write("secret", "0xac09");
    let said = desk.refused(2, &line.replace("key.json", "other.json"));
    assert!(said.contains("64 hexadecimal digits") && !said.contains("ac09"), "{said}");
    assert!(!desk.path("other.json").exists());
}

#[test]
fn no_terminal_and_no_file_is_no_passphrase() {
    let said = Desk::new().refused(2, "key new --out key.json");
    assert!(said.contains("--passphrase-file"), "{said}");
}

#[test]
fn wrong_passphrases_missing_keys_and_open_permissions_are_said() {
    let desk = Desk::furnished();
    desk.write("wrong", "incorrect horse");
    let enrol = "device consent --fleet 1 --operator 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
    assert!(desk.run(enrol).status.success());
    let said = desk.refused(2, &format!("{enrol} --passphrase-file wrong"));
    assert!(said.contains("wrong passphrase") && said.contains("key.json"), "{said}");
    let said = desk.refused(2, &format!("{enrol} --key none.json"));
    assert!(said.contains("none.json") && said.contains("key new"), "{said}");
    let mut open = std::fs::metadata(desk.path("key.json")).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut open, 0o644);
    std::fs::set_permissions(desk.path("key.json"), open).unwrap();
    assert!(desk.refused(2, enrol).contains("chmod 600"));
}

#[test]
fn a_consent_line_is_checked_by_who_uses_it() {
    let desk = Desk::furnished();
    let output = desk.run("device consent --fleet 1 --operator 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed");
    let line = String::from_utf8(output.stdout).unwrap();
    assert_eq!(line.trim().len(), 192, "{line}");
    let said = desk.refused(2, "device enrol --fleet 1 --consent 0102");
    assert!(said.contains("not a consent"), "{said}");
}

#[test]
fn a_wrong_checksum_is_said_before_anything_is_asked() {
    let desk = Desk::furnished();
    let said = desk.refused(2, "resolve 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1Beaed");
    assert!(said.contains("EIP-55"), "{said}");
}

#[test]
fn a_misspelt_profile_key_is_named() {
    let desk = Desk::furnished();
    desk.write("windlass.toml", "rpc = 'http://127.0.0.1:1'\nspek = 'chain.spec'\n");
    let said = desk.refused(2, "chain spec");
    assert!(said.contains("windlass.toml, line 2") && said.contains("spek"), "{said}");
    let said = desk.refused(2, "chain spec --profile none.toml");
    assert!(said.contains("none.toml"), "{said}");
}

#[test]
fn what_a_command_misses_is_said() {
    let desk = Desk::new();
    assert!(desk.refused(2, "chain spec").contains("--spec"));
    assert!(desk.refused(2, "fleet create").contains("--spec"));
    desk.write("chain.spec", "x");
    assert!(desk.refused(2, "chain spec --spec chain.spec").contains("--publisher"));
}

#[test]
fn a_spec_of_another_publisher_is_refused() {
    let desk = Desk::furnished();
    assert!(desk.run("chain spec").status.success());
    let said = desk.refused(2, "chain spec --publisher 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed");
    assert!(said.contains("chain.spec") && said.contains("signed by"), "{said}");
    let bytes = std::fs::read(desk.path("chain.spec")).unwrap();
    desk.write("chain.spec", &bytes[..bytes.len() - 1]);
    assert!(desk.refused(2, "chain spec").contains("not a chain spec"));
}

#[test]
fn a_chain_that_is_down_is_said() {
    let desk = Desk::furnished();
    let url = format!("http://127.0.0.1:{}", closed_port());
    for command in
        ["fleet create", "device suspend 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "name renew pump-7"]
    {
        let said = desk.refused(2, &format!("{command} --rpc {url}"));
        assert!(said.contains(&url) && said.contains("no answer"), "{said}");
    }
    let committee = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
    desk.refused(2, &format!("chain deploy --committee {committee} --out new.spec --rpc {url}"));
    assert!(!desk.path("new.spec").exists() && !desk.path("new.spec.journal").exists());
}

#[test]
fn nodes_that_are_down_are_named() {
    let desk = Desk::furnished();
    let node = NODE.replace("/tcp/1/", &format!("/tcp/{}/", closed_port()));
    let said = desk.refused(2, &format!("resolve pump-7 --node {node}"));
    assert!(said.contains("pump-7") && said.contains("/ip4/127.0.0.1/tcp/"), "{said}");
    let said = desk.refused(2, "resolve pump-7 --node /ip4/127.0.0.1/tcp/1");
    assert!(said.contains("/p2p/"), "{said}");
}

#[test]
fn errors_are_json_when_asked_for() {
    let desk = Desk::new();
    for (line, code) in [
        ("chain spec --json", "missing"),
        ("flet --json", "usage"),
        ("address --json --key none", "key_file"),
    ] {
        let output = desk.run(line);
        assert_eq!(output.status.code(), Some(2), "{line}");
        let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!(error["error"]["code"], code, "{line}");
        assert_eq!(error["error"]["proven"], false, "{line}");
    }
}

#[test]
fn help_and_version_are_no_errors_and_a_closed_pipe_is_quiet() {
    let desk = Desk::new();
    for line in ["--help", "--version", "device enrol --help"] {
        let output = desk.run(line);
        assert!(output.status.success() && output.stderr.is_empty(), "{line}");
    }
    assert_eq!(desk.run("fleet").status.code(), Some(2));
    let desk = Desk::furnished();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = desk.command("chain spec").stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
