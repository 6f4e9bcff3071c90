//! Wrong input of all kinds gets one line that says what, where and what to do, and exit code 1 (a proven
//! no) or 2; nothing panics and nothing is lost.

#![allow(missing_docs)]

use anyhow::{Context, ensure};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;
use windlass_tests::story::{NAME, Story};
use windlass_tests::windlass::{Outcome, Windlass, program};

/// One line on standard error that mentions all of these, and this exit code.
fn refused(outcome: &Outcome, code: i32, mentions: &[&str]) -> anyhow::Result<()> {
    ensure!(outcome.code == code, "exit code {}: {}{}", outcome.code, outcome.stdout, outcome.stderr);
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    ensure!(lines.len() == 1, "not one line: {}", outcome.stderr);
    ensure!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    for mention in mentions {
        ensure!(lines[0].contains(mention), "does not mention {mention}: {}", lines[0]);
    }
    Ok(())
}

/// A profile with some lines replaced.
fn changed_profile(
    profile: &Path,
    suffix: &str,
    change: impl Fn(&str) -> String,
) -> anyhow::Result<Windlass> {
    let text = fs::read_to_string(profile)?;
    let path = profile.with_extension(format!("{suffix}.toml"));
    fs::write(&path, text.lines().map(|line| change(line) + "\n").collect::<String>())?;
    Windlass::new(&path)
}

#[tokio::test]
async fn what_a_person_may_type_wrong() -> anyhow::Result<()> {
    let mut story = Story::start().await?;
    story.create_fleet().await?;
    let a = story.enrol("a").await?;

    let unknown = a.windlass.run(&["resolve", "nobody-has-this"]).await?;
    refused(&unknown, 1, &["nobody-has-this"])?;

    let mut wrong_case = a.id.clone();
    let place = wrong_case.find(|c: char| c.is_ascii_lowercase() && c != 'x').context("a letter")?;
    let upper = wrong_case[place..=place].to_uppercase();
    wrong_case.replace_range(place..=place, &upper);
    refused(&a.windlass.run(&["resolve", &wrong_case]).await?, 2, &["checksum"])?;

    let passphrase = story.testnet.directory().join("wrong-passphrase");
    fs::write(&passphrase, "not it")?;
    let wrong = changed_profile(&story.testnet.profile(), "passphrase", |line| {
        if line.starts_with("passphrase_file") {
            format!("passphrase_file = {:?}", passphrase.to_string_lossy())
        } else {
            line.to_owned()
        }
    })?;
    refused(&wrong.run(&["fleet", "create"]).await?, 2, &["passphrase"])?;

    let misspelt =
        changed_profile(&story.testnet.profile(), "misspelt", |line| line.replace("nodes =", "nods ="))?;
    refused(&misspelt.run(&["resolve", NAME]).await?, 2, &["nods"])?;
    story.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn nodes_or_chain_that_are_down() -> anyhow::Result<()> {
    let mut story = Story::start().await?;
    story.create_fleet().await?;
    let a = story.enrol("a").await?;
    story.testnet.kill_chain().await?;
    refused(&story.operator.run(&["fleet", "create"]).await?, 2, &["127.0.0.1"])?;
    for index in 0..3 {
        story.testnet.kill_node(index).await?;
    }
    refused(&a.windlass.run(&["resolve", &a.id]).await?, 2, &["node"])?;
    story.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_chain_spec_of_another_chain() -> anyhow::Result<()> {
    let (story, other) = (Story::start().await?, Story::start().await?);
    let foreign = other.testnet.spec_file();
    let wrong = changed_profile(&story.testnet.profile(), "foreign", |line| {
        if line.starts_with("spec") {
            format!("spec = {:?}", foreign.to_string_lossy())
        } else {
            line.to_owned()
        }
    })?;
    refused(&wrong.run(&["resolve", "pump-7"]).await?, 2, &["node", "chain spec is another network's"])?;
    refused(&wrong.run(&["fleet", "create"]).await?, 2, &["chain"])?;
    let publisher = changed_profile(&story.testnet.profile(), "publisher", |line| {
        if line.starts_with("publisher") {
            "publisher = \"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed\"".to_owned()
        } else {
            line.to_owned()
        }
    })?;
    refused(&publisher.run(&["resolve", "pump-7"]).await?, 2, &["publisher"])?;
    story.shutdown().await;
    other.shutdown().await;
    Ok(())
}

/// Runs `windlass-node` with this configuration until it ends by itself.
async fn node(config: &Path) -> anyhow::Result<Outcome> {
    let output = Command::new(program("windlass-node")?)
        .args(["run", "--config"])
        .arg(config)
        // Its log is not what is judged here; all the rest it writes is.
        .env("WINDLASS_LOG", "off")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(20), output).await??;
    Ok(Outcome {
        code: output.status.code().unwrap_or(-1),
        json: serde_json::Value::Null,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn changed_config(
    config: &Path,
    suffix: &str,
    change: impl Fn(&str) -> String,
) -> anyhow::Result<std::path::PathBuf> {
    let text = fs::read_to_string(config)?;
    let path = config.with_extension(format!("{suffix}.toml"));
    fs::write(&path, text.lines().map(|line| change(line) + "\n").collect::<String>())?;
    Ok(path)
}

#[tokio::test]
async fn a_node_that_cannot_start() -> anyhow::Result<()> {
    let story = Story::start().await?;
    let config = story.testnet.directory().join("node-1.toml");

    let free_port = |line: &str| {
        if line.starts_with("listen") {
            "listen = [\"/ip4/127.0.0.1/tcp/0\"]".to_owned()
        } else {
            line.to_owned()
        }
    };
    let second = changed_config(&config, "second", free_port)?;
    refused(&node(&second).await?, 2, &["node-1"])?;

    let misspelt = changed_config(&config, "misspelt", |line| line.replace("providers", "provider"))?;
    refused(&node(&misspelt).await?, 2, &["provider"])?;

    let running = story.testnet.nodes()[1].as_ref().context("node 2 runs")?;
    let port = running.multiaddr.split('/').nth(4).context("a port")?.to_owned();
    let elsewhere = story.testnet.directory().join("elsewhere");
    let taken = changed_config(&config, "taken", |line| match line {
        line if line.starts_with("listen") => format!("listen = [\"/ip4/127.0.0.1/tcp/{port}\"]"),
        line if line.starts_with("data_dir") => format!("data_dir = {:?}", elsewhere.to_string_lossy()),
        line => line.to_owned(),
    })?;
    refused(&node(&taken).await?, 2, &[&port])?;
    story.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_node_on_the_mirror_of_another_chain() -> anyhow::Result<()> {
    let (mut story, other) = (Story::start().await?, Story::start().await?);
    story.testnet.kill_node(0).await?;
    let data = story.testnet.directory().join("node-1");
    let config = other.testnet.directory().join("node-1.toml");
    let wrong = changed_config(&config, "mirror", |line| match line {
        line if line.starts_with("data_dir") => format!("data_dir = {:?}", data.to_string_lossy()),
        line if line.starts_with("listen") => "listen = [\"/ip4/127.0.0.1/tcp/0\"]".to_owned(),
        line => line.to_owned(),
    })?;
    refused(&node(&wrong).await?, 2, &["spec"])?;
    story.shutdown().await;
    other.shutdown().await;
    Ok(())
}
