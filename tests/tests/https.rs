//! A chain behind https, as public providers are: the whole network runs against it when its certificate is
//! trusted, and nothing is sent when it isn't.

#![allow(missing_docs)]

use anyhow::{Context, ensure};
use rustls::pki_types::PrivatePkcs8KeyDer;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;
use windlass_testnet::chain::{Chain, ChainConfig};
use windlass_tests::windlass::{Running, program};

/// The access key in the URL, as providers hand them out.
const ACCESS_KEY: &str = "0f4c7a3d-access-key";

/// The embedded chain behind TLS, with a certificate of its own making.
struct Provider {
    _chain: Chain,
    url: String,
    _folder: tempfile::TempDir,
    certificate: PathBuf,
}

impl Provider {
    async fn start() -> anyhow::Result<Self> {
        let chain = Chain::start(ChainConfig { port: 0, ..ChainConfig::default() }).await?;
        let target = chain.rpc_url().trim_start_matches("http://").to_owned();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        let folder = tempfile::tempdir()?;
        let certificate = folder.path().join("provider.pem");
        std::fs::write(&certificate, made.cert.pem())?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let crypto = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(crypto)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("https://reader:{ACCESS_KEY}@localhost:{}", listener.local_addr()?.port());
        tokio::spawn(terminate(listener, TlsAcceptor::from(Arc::new(config)), target));
        Ok(Self { _chain: chain, url, _folder: folder, certificate })
    }
}

/// Takes TLS off every connection and passes on what is in it.
async fn terminate(listener: TcpListener, acceptor: TlsAcceptor, target: String) {
    while let Ok((connection, _)) = listener.accept().await {
        let (acceptor, target) = (acceptor.clone(), target.clone());
        tokio::spawn(async move {
            let mut outside = acceptor.accept(connection).await?;
            let mut inside = TcpStream::connect(target).await?;
            tokio::io::copy_bidirectional(&mut outside, &mut inside).await
        });
    }
}

fn trusting(command: &mut Command, certificate: &Path) {
    command.env("SSL_CERT_FILE", certificate);
}

#[tokio::test]
async fn a_whole_network_runs_on_a_chain_behind_https() -> anyhow::Result<()> {
    let provider = Provider::start().await?;
    let mut command = Command::new(program("windlass-testnet")?);
    command.args(["up", "--nodes=2", "--devices=1", "--json", "--rpc-url", &provider.url]);
    trusting(&mut command, &provider.certificate);
    let mut network = Running::start(command, "the network".to_owned())?;
    let up = network.event(Duration::from_secs(60), |event| event["devices"].is_array()).await?;
    let profile = up["profile"].as_str().context("no profile")?;

    let mut resolve = Command::new(program("windlass")?);
    resolve.args(["--json", "--profile", profile, "resolve", "device-1"]).stdin(Stdio::null());
    let resolved = resolve.kill_on_drop(true).output().await?;
    ensure!(resolved.status.success(), "{}", String::from_utf8_lossy(&resolved.stderr));
    Ok(())
}

#[tokio::test]
async fn an_untrusted_certificate_is_refused_and_no_access_key_printed() -> anyhow::Result<()> {
    let provider = Provider::start().await?;
    let folder = tempfile::tempdir()?;
    let (other, out) = (folder.path().join("other.pem"), folder.path().join("chain.spec"));
    std::fs::write(&other, rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?.cert.pem())?;
    let member = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
    let key = folder.path().join("key.json");
    let passphrase = folder.path().join("passphrase");
    std::fs::write(&passphrase, "of no use elsewhere")?;
    let windlass = |arguments: &[&std::ffi::OsStr]| {
        let mut command = Command::new(std::path::absolute(program("windlass")?)?);
        command.args(arguments).current_dir(folder.path()).stdin(Stdio::null()).kill_on_drop(true);
        trusting(&mut command, &other);
        anyhow::Ok(command)
    };
    let passphrase_file = passphrase.as_os_str();
    let new = ["key", "new", "--out"].map(std::ffi::OsStr::new);
    let made =
        windlass(&[new[0], new[1], new[2], key.as_os_str(), "--passphrase-file".as_ref(), passphrase_file])?
            .output()
            .await?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut deploy =
        windlass(&["--rpc".as_ref(), provider.url.as_ref(), "--passphrase-file".as_ref(), passphrase_file])?;
    deploy.args(["chain", "deploy", "--committee", member, "--key"]).arg(&key).arg("--out").arg(&out);
    let refused = deploy.output().await?;
    let text = String::from_utf8_lossy(&refused.stderr);
    ensure!(refused.status.code() == Some(2) && !out.exists(), "{text}");
    ensure!(text.lines().count() == 1 && text.to_lowercase().contains("certificate"), "{text}");
    ensure!(!text.contains(ACCESS_KEY), "{text}");
    Ok(())
}
