//! A committee is replaced on chain: nodes stake, somebody proposes them, and from the next epoch on they alone are
//! believed, by devices that slept as well. Epochs pass because the chain's clock is put forward.

#![allow(missing_docs)]

use alloy::rpc::client::{ClientBuilder, RpcClient};
use alloy_sol_types::{Eip712Domain, SolCall, SolError, SolStruct};
use anyhow::{Context, ensure};
use futures::StreamExt;
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;
use windlass_contracts::node_staking::{ISigned, NodeStaking};
use windlass_p2p::frame::{read_frame, write_frame};
use windlass_p2p::libp2p::multiaddr::Protocol;
use windlass_p2p::swarm::{DeviceConfig, device_swarm};
use windlass_p2p::{Multiaddr, StreamProtocol};
use windlass_protocol::head::{Committee, Head, HeadError, Trust, verify_head};
use windlass_protocol::message::head::HeadMessage;
use windlass_protocol::message::resolve::{Reason, Request, Response};
use windlass_protocol::message::{MAX_FRAME, names};
use windlass_protocol::spec::{VerifiedSpec, verify_spec};
use windlass_protocol::{Address, B256, SecretKey, U256, wire};
use windlass_testnet::chain::DEV_ACCOUNTS;
use windlass_testnet::network::{Testnet, health};
use windlass_tests::evil::Lie;
use windlass_tests::peers;
use windlass_tests::story::{NAME, SOON, Story};
use windlass_tests::windlass::program;

/// What a node stakes, in wei.
const STAKE: u64 = 1_000_000_000_000_000_000;
/// Until when a consent to staking may be used.
const DEADLINE: u64 = (1 << 40) - 1;

/// How long another implementation may take to get to the present, on a machine that is busy with everything else.
const WALKED_WITHIN: Duration = Duration::from_secs(60);

mod eip712 {
    alloy_sol_types::sol! {
        struct RegisterNode { address node; address owner; uint40 deadline; }
    }
}

/// Sends transactions of the first funded account, and puts the clock forward.
struct Desk<'a> {
    testnet: &'a Testnet,
    client: RpcClient,
    spec: VerifiedSpec,
}

impl<'a> Desk<'a> {
    fn new(testnet: &'a Testnet) -> anyhow::Result<Self> {
        let client = ClientBuilder::default().http(testnet.rpc_url().parse()?);
        let spec = verify_spec(&fs::read(testnet.spec_file())?, testnet.publisher())?;
        Ok(Self { testnet, client, spec })
    }

    async fn ask(&self, method: &'static str, params: Value) -> anyhow::Result<Value> {
        self.client.request(method, params).await.with_context(|| method.to_owned())
    }

    async fn send(&self, call: Vec<u8>, value: u64) -> anyhow::Result<()> {
        let to = self.spec.contracts.node_staking.address;
        let (data, value) = (windlass_protocol::Bytes::from(call), U256::from(value));
        // Stated, since what it would need is estimated at the time of the newest block, not of the next.
        let gas = U256::from(500_000);
        let from = DEV_ACCOUNTS[0].address;
        let transaction = json!({ "from": from, "to": to, "data": data, "value": value, "gas": gas });
        let hash = self.ask("eth_sendTransaction", json!([transaction])).await?;
        let receipt = self.ask("eth_getTransactionReceipt", json!([hash])).await?;
        ensure!(receipt["status"] == "0x1", "a transaction failed: {receipt}");
        Ok(())
    }

    fn node_key(&self, number: usize) -> anyhow::Result<SecretKey> {
        let path = self.testnet.directory().join(format!("keys/node-{number}.json"));
        let passphrase = fs::read_to_string(self.testnet.passphrase_file())?;
        Ok(windlass_keyfile::read(&path, passphrase.trim_end())?)
    }

    /// Stakes for a node, with its consent.
    async fn stake(&self, number: usize) -> anyhow::Result<Address> {
        let key = self.node_key(number)?;
        let (node, owner) = (key.address().0, DEV_ACCOUNTS[0].address);
        let deadline = alloy::primitives::aliases::U40::from(DEADLINE);
        let domain = Eip712Domain::new(
            Some("NodeStaking".into()),
            Some("1".into()),
            Some(U256::from(self.spec.chain_id)),
            Some(self.spec.contracts.node_staking.address),
            None,
        );
        let digest = eip712::RegisterNode { node, owner, deadline }.eip712_signing_hash(&domain);
        let signature = key.sign(&digest);
        let signature = signature.as_bytes();
        let consent = ISigned::Signature {
            r: B256::from_slice(&signature[..32]),
            s: B256::from_slice(&signature[32..64]),
            v: signature[64] + 27,
        };
        self.send(NodeStaking::registerCall { node, deadline, consent }.abi_encode(), STAKE).await?;
        Ok(node)
    }

    /// The newest block's number and time.
    async fn newest(&self) -> anyhow::Result<(u64, u64)> {
        let block = self.ask("eth_getBlockByNumber", json!(["latest", false])).await?;
        let field = |name: &str| {
            let text = block[name].as_str().context("no such field")?.trim_start_matches("0x");
            Ok::<_, anyhow::Error>(u64::from_str_radix(text, 16)?)
        };
        Ok((field("number")?, field("timestamp")?))
    }

    /// The next block is made at this time.
    async fn at(&self, timestamp: u64) -> anyhow::Result<()> {
        self.ask("evm_setNextBlockTimestamp", json!([timestamp])).await.map(drop)
    }

    /// Makes a block at this time and waits until every node serves it.
    async fn mine(&self, timestamp: u64) -> anyhow::Result<()> {
        self.at(timestamp).await?;
        self.ask("evm_mine", json!([])).await?;
        let (number, _) = self.newest().await?;
        self.testnet.wait_served(number).await?;
        Ok(())
    }

    /// Waits until every node's health is as wanted.
    async fn all(&self, what: &str, wanted: impl Fn(usize, &Value) -> bool) -> anyhow::Result<()> {
        for (place, node) in self.testnet.nodes().iter().flatten().enumerate() {
            let reached = async {
                while !health(&node.admin).await.is_some_and(|said| wanted(place, &said)) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let waited = tokio::time::timeout(SOON, reached).await;
            ensure!(waited.is_ok(), "node {}: {what}: {:?}", place + 1, health(&node.admin).await);
        }
        Ok(())
    }
}

/// What a node answers to a device that wants a nonce signed.
async fn challenge(testnet: &Testnet, node: usize, key: &SecretKey, nonce: B256) -> anyhow::Result<Response> {
    let address: Multiaddr = testnet.multiaddrs()[node].parse()?;
    let Some(Protocol::P2p(peer)) = address.iter().last() else { anyhow::bail!("{address} has no peer id") };
    let (mut swarm, control) = device_swarm(key, &DeviceConfig::new("test"))?;
    let driver = tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    let mut stream = control.open(peer, vec![address], StreamProtocol::new(names::RESOLVE), SOON).await?;
    write_frame(&mut stream, &wire::encode(&Request { questions: Vec::new(), nonce: Some(nonce) })).await?;
    let response = wire::decode(&read_frame(&mut stream).await?, MAX_FRAME)?;
    driver.abort();
    Ok(response)
}

#[tokio::test]
async fn members_sign_a_devices_nonce_and_each_peer_waits() -> anyhow::Result<()> {
    let story = Story::start().await?;
    let desk = Desk::new(&story.testnet)?;
    let committee = Committee::first(&desk.spec);
    let (key, nonce) = (SecretKey::from_bytes(&rand::random())?, B256::repeat_byte(7));
    // Nodes may still be finding each other.
    let bundle = loop {
        match challenge(&story.testnet, 0, &SecretKey::from_bytes(&rand::random())?, nonce).await? {
            Response::Proven { bundle, .. } => break bundle,
            Response::Refused { reason: Reason::NotReady, .. } => {}
            other => anyhow::bail!("{other:?}"),
        }
    };
    let trust = |nonce| Trust { spec: &desk.spec, committee: &committee, now: None, nonce: Some(nonce) };
    let head = verify_head(&trust(nonce), &bundle.header, &bundle.attestations)?;
    ensure!(head.signers() == 2, "a threshold is enough: {}", head.signers());
    // For another nonce it is worth nothing.
    let other = B256::repeat_byte(8);
    let replayed = verify_head(&trust(other), &bundle.header, &bundle.attestations);
    ensure!(matches!(replayed, Err(HeadError::Nonce(_))), "{replayed:?}");
    // The same device again has to wait, others don't.
    challenge(&story.testnet, 0, &key, nonce).await?;
    let again = challenge(&story.testnet, 0, &key, other).await?;
    ensure!(matches!(again, Response::Refused { reason: Reason::RateLimited, .. }), "{again:?}");
    let elsewhere = challenge(&story.testnet, 1, &key, other).await?;
    ensure!(!matches!(elsewhere, Response::Refused { reason: Reason::RateLimited, .. }), "{elsewhere:?}");
    story.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_new_committee_takes_over_and_the_retired_one_is_refused() -> anyhow::Result<()> {
    let network = Testnet::builder(program("windlass-testnet")?).nodes(3).committee(1);
    let mut story = Story::over(network).await?;
    story.create_fleet().await?;
    let (a, b) = (story.enrol("a").await?, story.enrol("b").await?);
    story.register_name(&a).await?;
    story.grant(&a, &b).await?;
    let before = story.resolve(&b).await?;
    ensure!(before["proof"]["threshold"] == 1, "the first committee has one member: {before}");

    // Nodes 2 and 3 stake, and are proposed in the first half of a later epoch.
    let desk = Desk::new(&story.testnet)?;
    let mut members = vec![desk.stake(2).await?, desk.stake(3).await?];
    members.sort_unstable();
    let length = desk.spec.epoch_length;
    // The one after the next: however slow this machine is, it hasn't begun yet.
    let epoch = u32::try_from(desk.newest().await?.1 / length)? + 2;
    let start = u64::from(epoch) * length;
    desk.at(start + 10).await?;
    desk.send(NodeStaking::proposeCommitteeCall { epoch: epoch + 1, members }.abi_encode(), 0).await?;

    // Its second half settles it, and every node keeps a head of it.
    desk.mine(start + length / 2 + 10).await?;
    desk.all("no head of the epoch is kept", |_, said| said["signing"]["epoch_kept"] == epoch).await?;
    desk.mine(start + length + 1).await?;
    let in_office = |place: usize, said: &Value| said["signing"]["member"] == (place > 0);
    desk.all("it should be in office, or not", in_office).await?;

    // B slept meanwhile, and walks forward.
    let after = story.resolve(&b).await?;
    ensure!(after["proof"]["epoch"] == epoch + 1, "{after}");
    ensure!(after["proof"]["threshold"] == 2 && after["proof"]["attested_by"] == 2, "{after}");
    ensure!(after["proof"]["refused"].as_array().is_some_and(Vec::is_empty), "{after}");
    // Once there, it remembers.
    let again = story.resolve(&b).await?;
    ensure!(again["proof"]["epoch"] == epoch + 1, "{again}");

    // So does another implementation, of which the page about the wire formats is all that it knows.
    let (secret, passphrase) = (&b.files.key, fs::read_to_string(story.testnet.passphrase_file())?);
    let secret = windlass_keyfile::read(secret, passphrase.trim_end())?;
    if let Some(mut second) = peers::second_implementation(&story.testnet, NAME, &secret).await? {
        let resolved = second.event(WALKED_WITHIN, |line| line.get("resolved").is_some()).await?;
        ensure!(resolved["epoch"] == epoch + 1, "{resolved}");
        second.kill().await?;
    }

    // Who was replaced is believed no more; A, which walks only now, knows that it was.
    let reason = story.resolve_past_a_lie(&a, &a, Lie::RetiredCommittee).await?;
    ensure!(reason.contains("is no more"), "{reason}");
    story.shutdown().await;
    Ok(())
}

/// Node 2's second signature at one number, told to node 1 by a stranger, costs node 2 its stake: node 1 has an account
/// for it, and nobody does anything.
#[tokio::test]
async fn a_member_that_signs_two_blocks_loses_its_stake_by_another_nodes_report() -> anyhow::Result<()> {
    let testnet = Testnet::builder(program("windlass-testnet")?).nodes(2).reporting().start().await?;
    let desk = Desk::new(&testnet)?;
    let member = desk.stake(2).await?;
    let (number, _) = desk.newest().await?;
    // Served: both have signed it.
    testnet.wait_served(number).await?;
    let attested_at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let lie = Head { number, hash: B256::repeat_byte(0xe1), attested_at, nonce: B256::ZERO };
    let attestation = lie.attest(&desk.spec, &desk.node_key(2)?);
    let message = HeadMessage::Attested { number, hash: lie.hash, attestation };

    let address: Multiaddr = testnet.multiaddrs()[0].parse()?;
    let Some(Protocol::P2p(peer)) = address.iter().last() else { anyhow::bail!("{address} has no peer id") };
    let stranger = SecretKey::from_bytes(&rand::random())?;
    let (mut swarm, control) = device_swarm(&stranger, &DeviceConfig::new("test"))?;
    let driver = tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    let mut stream = control.open(peer, vec![address], StreamProtocol::new(names::HEAD), SOON).await?;
    write_frame(&mut stream, &wire::encode(&message)).await?;

    let admin = &testnet.nodes()[0].as_ref().context("node 1 runs")?.admin;
    let convicted = async {
        loop {
            let said = health(admin).await.unwrap_or_default();
            if said["faults"][0]["outcome"]["state"] == "convicted" {
                return said["faults"][0].clone();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let fault = tokio::time::timeout(SOON, convicted).await.context("nobody was convicted")?;
    ensure!(fault["member"] == member.to_string(), "{fault}");
    let receipt = desk.ask("eth_getTransactionReceipt", json!([fault["outcome"]["transaction"]])).await?;
    ensure!(receipt["status"] == "0x1", "{receipt}");
    // The stake is gone: the same evidence is worth nothing any more.
    let to = desk.spec.contracts.node_staking.address;
    let again = json!([{ "from": DEV_ACCOUNTS[1].address, "to": to, "data": fault["report"] }, "latest"]);
    let refused = desk.ask("eth_call", again).await.unwrap_err();
    let selector = alloy::primitives::hex::encode(NodeStaking::NodeIsSlashed::SELECTOR);
    ensure!(format!("{refused:?}").contains(&selector), "{refused:?}");
    driver.abort();
    testnet.shutdown().await;
    Ok(())
}
