//! A chain that never stands still, the folder of one node, and what a device can prove through that node.

use crate::chain::Change;
use crate::clock::unix_seconds;
use crate::store::{Signed, Store, View};
use crate::testing::device::{Device, push};
use crate::testing::rpc::Rpc;
use crate::testing::{self, FakeChain};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};
use windlass_keyfile::Strength;
use windlass_p2p::frame::{read_frame, write_frame};
use windlass_p2p::{Multiaddr, PeerId, StreamProtocol, identity};
use windlass_protocol::bundle::open_bundle;
use windlass_protocol::head::{Committee, Trust};
use windlass_protocol::message::head::HeadMessage;
use windlass_protocol::message::names;
use windlass_protocol::message::resolve::{Reason, Request, Response};
use windlass_protocol::question::Question;
use windlass_protocol::slot::Slot;
use windlass_protocol::spec::VerifiedSpec;
use windlass_protocol::{Address, B256, DeviceId, keccak256, trie, wire};

/// How long anything may take before the test says that it never came.
const WITHIN: Duration = Duration::from_secs(60);
/// Slots that the chain writes, all of them asked for in one request.
const SLOTS: u8 = 16;
/// Between two changes of the chain under load.
const BEAT: Duration = Duration::from_millis(5);

/// Numbers that look random; the same for the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `sides` (splitmix64).
    pub(crate) fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

pub(crate) fn slot(number: u8) -> Slot {
    Slot::Device(DeviceId(Address::with_last_byte(number)))
}

/// What nodes said about heads: every hash that the member signed at a number.
type Said = Arc<Mutex<BTreeMap<u64, BTreeSet<B256>>>>;

/// The chain and one node's folder. The node is the whole committee, so it serves what it signs.
pub(crate) struct World {
    pub(crate) chain: Arc<FakeChain>,
    pub(crate) spec: VerifiedSpec,
    pub(crate) said: Said,
    member: Address,
    folder: tempfile::TempDir,
    load: Option<JoinHandle<()>>,
    _rpc: Rpc,
}

impl World {
    pub(crate) async fn new() -> Self {
        let chain = FakeChain::new();
        let rpc = Rpc::serve(chain.clone(), 1_337).await;
        let (spec, keys) = testing::spec(1);
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        windlass_keyfile::create(&at("key.json"), &keys[0], "word", Strength::Light).unwrap();
        fs::write(at("passphrase"), "word").unwrap();
        fs::write(at("chain.spec"), testing::spec_bytes(&spec)).unwrap();
        let config = format!(
            r#"data_dir = "data"
key_file = "key.json"
passphrase_file = "passphrase"
spec_file = "chain.spec"
publisher = "{}"
providers = ["{}"]
listen = ["/ip4/127.0.0.1/tcp/0"]
admin = "127.0.0.1:0"
poll_interval_ms = 5
"#,
            testing::publisher().address(),
            rpc.url
        );
        fs::write(at("other.toml"), config.replace("\"data\"", "\"other\"")).unwrap();
        fs::write(at("node.toml"), config).unwrap();
        let member = keys[0].address().0;
        Self { chain, spec, said: Said::default(), member, folder, load: None, _rpc: rpc }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Adds blocks, all of them final at once.
    pub(crate) fn extend_finally(&self, blocks: u8) {
        for value in 1..=blocks {
            self.chain.extend(vec![(slot(value).storage_key(), B256::with_last_byte(value))]);
        }
        self.chain.finalise(u64::MAX / 2);
    }

    /// Runs `windlass-node snapshot`: its exit code, standard output and standard error.
    pub(crate) async fn snapshot(
        &self,
        command: &str,
        config: &str,
        path: &Path,
    ) -> (Option<i32>, String, String) {
        let mut process = Command::new(env!("CARGO_BIN_EXE_windlass-node"));
        process.args(["snapshot", command, "--config"]).arg(self.folder.path().join(config)).arg(path);
        let output = timeout(WITHIN, process.stdin(Stdio::null()).kill_on_drop(true).output());
        let output = output.await.expect("an end in time").unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// From now on the chain changes at every beat: blocks, reorgs, finality.
    pub(crate) fn put_under_load(&mut self, seed: u64) {
        let chain = self.chain.clone();
        self.load = Some(tokio::spawn(async move {
            let mut dice = Dice::new(seed);
            let mut beat = interval(BEAT);
            loop {
                beat.tick().await;
                change(&chain, &mut dice);
            }
        }));
    }

    /// Whether the chain stands still.
    pub(crate) fn is_resting(&self) -> bool {
        self.load.is_none()
    }

    /// From now on the chain stands still.
    pub(crate) fn rest(&mut self) {
        if let Some(load) = self.load.take() {
            load.abort();
        }
    }

    /// The chain takes final blocks back, as no honest one does: it goes on differently from this many blocks
    /// below the last one that the node signed.
    pub(crate) fn break_finality(&self, blocks: u64) {
        let signed = self.said.lock().unwrap().last_key_value().map_or(1, |(number, _)| *number);
        let height = self.chain.height();
        self.chain.break_finality(signed.saturating_sub(blocks).max(1));
        // As high as before, else the node would take its provider for one that lags.
        while self.chain.height() < height {
            self.chain.extend(vec![(slot(0).storage_key(), B256::repeat_byte(0xbf))]);
        }
        self.chain.finalise(1);
    }

    /// Starts the node's process. `limit`: most 512-byte blocks of any file it writes.
    pub(crate) fn start(&self, limit: Option<u64>) -> NodeProcess {
        self.start_with("node.toml", limit)
    }

    /// The same with another configuration of this folder's.
    pub(crate) fn start_with(&self, config: &str, limit: Option<u64>) -> NodeProcess {
        let program = env!("CARGO_BIN_EXE_windlass-node");
        let mut command = match limit {
            // Without the signal a write beyond the limit fails as on a full disk.
            Some(blocks) => {
                let mut shell = Command::new("sh");
                let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
                shell.args(["-c", &script, program]);
                shell
            }
            None => Command::new(program),
        };
        command.args(["run", "--json", "--config"]).arg(self.folder.path().join(config));
        command.env("WINDLASS_LOG", "warn").stdin(Stdio::null());
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut errors = child.stderr.take().unwrap();
        let stderr = tokio::spawn(async move {
            let mut text = String::new();
            // What isn't text is shown as far as it is.
            let _ = errors.read_to_string(&mut text).await;
            text
        });
        NodeProcess { child, stderr }
    }

    /// What the mirror holds after the process died: its cursor's block as the chain had it, to the last slot
    /// and the root; and the signing record, at or above everything that was ever told.
    pub(crate) fn check_mirror(&self, directory: &Path) -> Option<u64> {
        let store = Store::open(directory, &self.spec).unwrap();
        let signed = store.get::<Signed>(&()).unwrap();
        let told = self.said.lock().unwrap().last_key_value().map(|(number, _)| *number);
        assert!(told <= signed.map(|signed| signed.number), "told {told:?}, recorded {signed:?}");
        let cursor = store.cursor().unwrap()?;
        let expected = self.chain.slots_of(cursor.hash).expect("a block that the chain had");
        let view = View::new(&store, cursor.number, store.generation());
        for number in 0..SLOTS {
            let key = slot(number).storage_key();
            let value = expected.get(&key).copied().unwrap_or_default();
            assert_eq!(view.value(&key).unwrap(), value, "slot {number} at {}", cursor.number);
        }
        assert_eq!(view.root().unwrap(), root(&expected), "the root at {}", cursor.number);
        Some(cursor.number)
    }

    /// Proves every slot through the node, under a head that is as high as the chain's final one is now, and
    /// compares them with the chain. Returns the head's number.
    pub(crate) async fn prove(&self, node: &Ready) -> u64 {
        let device = &node.device;
        let target = self.chain.finalised();
        let mut watch = device.open(node.peer, &node.multiaddr, names::WATCH).await;
        while push(&mut watch, &self.spec, unix_seconds()).await.1.head().number() < target {}
        let questions: Vec<_> = (0..SLOTS).map(|number| Question::Slot(slot(number))).collect();
        let bundle = loop {
            let mut stream = device.open(node.peer, &node.multiaddr, names::RESOLVE).await;
            let request = Request::of(questions.clone());
            write_frame(&mut stream, &wire::encode(&request)).await.unwrap();
            let frame = read_frame(&mut stream).await.unwrap();
            match wire::decode(&frame, usize::MAX).unwrap() {
                Response::Proven { bundle, .. } => break bundle,
                // On a busy machine this chain outruns the window in which a height can be read.
                Response::Refused { reason: Reason::NotReady, .. } => {
                    push(&mut watch, &self.spec, unix_seconds()).await;
                }
                Response::Refused { reason, text } => panic!("refused: {reason}: {text}"),
                Response::Step(_) | Response::Spec(_) => panic!("neither was asked for"),
            }
        };
        let committee = Committee::first(&self.spec);
        let trust = Trust { spec: &self.spec, committee: &committee, now: Some(unix_seconds()), nonce: None };
        let mut open = open_bundle(&trust, &bundle).unwrap();
        let expected = self.chain.slots_of(open.head().header().hash).expect("a block of the chain");
        for number in 0..SLOTS {
            let value = expected.get(&slot(number).storage_key()).copied().unwrap_or_default();
            assert_eq!(open.value(slot(number)).unwrap(), value, "slot {number}");
        }
        open.finish().unwrap().head().number()
    }

    /// Waits until the node reports the chain's final block, whether or not it signs it.
    pub(crate) async fn reported(&self, node: &Ready) {
        let mut reports = node.reports.clone();
        let last = self.chain.hash(self.chain.finalised());
        timeout(WITHIN, reports.wait_for(|reported| *reported == last)).await.expect("a report").unwrap();
    }

    /// Meets a node that is starting: waits for its ready line, and from then on notes what it says of heads.
    pub(crate) async fn meet(&self, node: &mut NodeProcess) -> Ready {
        let multiaddr = node.ready().await;
        let peer = identity::peer_id_of(&testing::key(1).public_key());
        let device = Device::start(&testing::key(0x71));
        let queue = NonZeroUsize::new(4).unwrap();
        let mut incoming = device.control().accept(StreamProtocol::new(names::HEAD), queue).unwrap();
        // A node tells whoever tells it something.
        let ours = device.open(peer, &multiaddr, names::HEAD).await;
        let (report, reports) = watch::channel(B256::ZERO);
        let (said, spec, member) = (self.said.clone(), self.spec.clone(), self.member);
        let ear = tokio::spawn(async move {
            let _ours = ours;
            let Some(mut theirs) = incoming.next().await else { return };
            while let Ok(frame) = read_frame(&mut theirs).await {
                match wire::decode::<HeadMessage>(&frame, usize::MAX).unwrap() {
                    HeadMessage::Attested { number, hash, attestation } => {
                        assert_eq!(attestation.signer(&spec, number, hash), Some(member));
                        said.lock().unwrap().entry(number).or_default().insert(hash);
                    }
                    HeadMessage::Report { hash, .. } => drop(report.send_replace(hash)),
                    HeadMessage::Challenge { .. } => panic!("nobody sent a nonce"),
                }
            }
        });
        Ready { peer, multiaddr, device, reports, ear }
    }

    /// No number with two hashes, and how many numbers there were.
    pub(crate) fn check_signatures(&self) -> usize {
        let said = self.said.lock().unwrap();
        for (number, hashes) in said.iter() {
            assert_eq!(hashes.len(), 1, "two blocks signed at {number}: {hashes:?}");
        }
        said.len()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.rest();
    }
}

fn change(chain: &FakeChain, dice: &mut Dice) {
    if dice.below(4) == 0 {
        chain.reorg(1 + dice.below(4) as usize);
    }
    chain.extend(changes(dice));
    let open = chain.height() - chain.finalised();
    match dice.below(2) {
        0 => chain.finalise(1 + dice.below(3)),
        _ if open > 12 => chain.finalise(open - 4),
        _ => {}
    }
}

fn changes(dice: &mut Dice) -> Vec<Change> {
    // Few slots and few values, zero among them: slots are overwritten and deleted often.
    let change = |dice: &mut Dice| {
        let key = slot(dice.below(u64::from(SLOTS)) as u8).storage_key();
        (key, B256::with_last_byte(dice.below(5) as u8))
    };
    (0..dice.below(5)).map(|_| change(dice)).collect()
}

fn root(slots: &BTreeMap<B256, B256>) -> B256 {
    let leaves = slots.iter().map(|(slot, value)| (keccak256(slot), trie::slot_change(value))).collect();
    trie::update(&mut trie::MemoryStore::new(), B256::ZERO, &leaves).unwrap()
}

/// A node that runs.
pub(crate) struct NodeProcess {
    child: Child,
    stderr: JoinHandle<String>,
}

/// A node that is ready, and the device that listens to it.
pub(crate) struct Ready {
    peer: PeerId,
    multiaddr: Multiaddr,
    device: Device,
    reports: watch::Receiver<B256>,
    ear: JoinHandle<()>,
}

impl Drop for Ready {
    fn drop(&mut self) {
        self.ear.abort();
    }
}

impl NodeProcess {
    /// Waits for its ready line, and says where it listens.
    async fn ready(&mut self) -> Multiaddr {
        let mut lines = BufReader::new(self.child.stdout.take().unwrap()).lines();
        let line = timeout(WITHIN, lines.next_line()).await.expect("ready in time").unwrap();
        let Some(line) = line else { panic!("the node ended before it was ready") };
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
        let mut multiaddr: Multiaddr = ready["listen"][0].as_str().unwrap().parse().unwrap();
        multiaddr.pop();
        multiaddr
    }

    /// Kills it as kill -9 does; returns what it had written to standard error.
    pub(crate) async fn kill(mut self) -> String {
        self.child.kill().await.unwrap();
        self.stderr.await.unwrap()
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(mut self) -> (ExitStatus, String) {
        let status = timeout(WITHIN, self.child.wait()).await.expect("an end in time").unwrap();
        (status, self.stderr.await.unwrap())
    }
}

/// A number of repetitions: from the environment for long runs, or the short form's.
pub(crate) fn amount(variable: &str, short: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(short)
}
