//! Running a test apart from this machine: in network, mount and process namespaces that are its own.
//!
//! The test runs its own program again under `unshare`, for itself alone. What it does to interfaces, routes, packet
//! filters or mounts is invisible outside and gone with its last process; the first one's end ends all others, also
//! after kill -9. Root isn't needed where the kernel lets others make user namespaces.

use super::Internet;
use crate::peers::skip_for;
use anyhow::{Context, bail, ensure};
use std::any::type_name_of_val;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

/// Says to a test's program that it runs apart, and which test.
const MARK: &str = "WINDLASS_APART";
/// What has to be installed.
const TOOLS: [(&str, &str); 4] =
    [("unshare", "--version"), ("ip", "-Version"), ("nft", "--version"), ("mount", "--version")];
/// How to get it.
const REMEDY: &str = "run scripts/setup.sh net";

/// Runs a scenario apart, on an internet of its own. `test` is the test function itself, which calls this and nothing
/// else. Where that isn't allowed or tools are missing the test says that it was skipped, and fails where `CI=true`.
pub fn apart<T, S, F>(test: &T, scenario: S) -> anyhow::Result<()>
where
    T: Fn() -> anyhow::Result<()>,
    S: FnOnce(Internet) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    let path = type_name_of_val(test);
    // The harness knows tests by their path without the crate's name.
    let name = path.split_once("::").map_or(path, |(_, name)| name);
    match std::env::var(MARK) {
        Ok(meant) => {
            ensure!(meant == name, "{name} runs where {meant} should");
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(async { scenario(Internet::build()?).await })
        }
        Err(_) => again(name),
    }
}

/// Runs this program again, apart and for this test alone.
fn again(name: &str) -> anyhow::Result<()> {
    if let Some(why) = impossible() {
        return skip_for(&why, REMEDY);
    }
    let program = std::env::current_exe()?;
    let mut command = unshare();
    // `ip` keeps names of namespaces below /run.
    command.args(["sh", "-c", "mount -t tmpfs windlass /run && exec \"$0\" \"$@\""]);
    command.arg(program).args(["--exact", name, "--nocapture", "--test-threads=1"]);
    let output = command.env(MARK, name).stdin(Stdio::null()).output().context("cannot run unshare")?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // What the scenario printed belongs to this test's output.
    eprint!("{stderr}");
    print!("{stdout}");
    if !output.status.success() {
        bail!("{name} failed apart: {}; what it said is above", output.status);
    }
    // A harness that finds no test of this name succeeds as well.
    ensure!(stdout.contains("1 passed"), "{name} was not run apart: {}", stdout.trim());
    Ok(())
}

/// Why nothing can be run apart here.
fn impossible() -> Option<String> {
    for (tool, version) in TOOLS {
        let tried = Command::new(tool)
            .arg(version)
            .env("PATH", path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !tried.is_ok_and(|status| status.success()) {
            return Some(format!("{tool} isn't installed"));
        }
    }
    let tried = unshare().args(["mount", "-t", "tmpfs", "windlass", "/run"]).output();
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Some(format!("namespaces aren't allowed here: {said}"))
        }
        Err(error) => Some(format!("unshare can't be run: {error}")),
    }
}

/// `unshare`, ready for the program to run.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.env("PATH", path());
    let root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if !root {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command
}

/// Where programs are, those for root included: in namespaces of his own anybody is root.
fn path() -> String {
    std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin"
}
