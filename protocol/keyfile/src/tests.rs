//! The definition's test vectors, and everything that must be refused.

#![allow(clippy::unwrap_used)]

use super::*;
use std::os::unix::fs::PermissionsExt;
use windlass_protocol::alloy_primitives::hex;

/// Both vectors of the definition: passphrase `testpassword`, this secret.
const SECRET: [u8; 32] = hex!("7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d");

const PBKDF2: &str = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"},
"ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46","kdf":"pbkdf2","kdfparams":{"c":262144,
"dklen":32,"prf":"hmac-sha256","salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},
"mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"},
"id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;

const SCRYPT: &str = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"83dbcc02d8ccb40e466191a123791e0e"},
"ciphertext":"d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c","kdf":"scrypt","kdfparams":{"dklen":32,
"n":262144,"p":8,"r":1,"salt":"ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19"},
"mac":"2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097"},
"id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("key.json")
    }

    /// A file with this content that only the owner can open.
    fn with(content: &str) -> Self {
        let folder = Self::new();
        std::fs::write(folder.path(), content).unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o600)).unwrap();
        folder
    }

    fn with_key() -> (Self, SecretKey) {
        let (folder, key) = (Self::new(), SecretKey::from_bytes(&SECRET).unwrap());
        create(&folder.path(), &key, "correct horse", Strength::Light).unwrap();
        (folder, key)
    }
}

fn reason(content: &str) -> FormatError {
    let folder = Folder::with(content);
    match read(&folder.path(), "testpassword") {
        Err(ReadError::Format { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_definitions_vectors_open() {
    for content in [PBKDF2, SCRYPT] {
        let folder = Folder::with(content);
        assert_eq!(*read(&folder.path(), "testpassword").unwrap().to_bytes(), SECRET);
        assert!(matches!(
            address(&folder.path()),
            Err(ReadError::Format { reason: FormatError::NoAddress, .. })
        ));
    }
}

#[test]
fn a_created_file_opens_with_its_passphrase_only() {
    let (folder, key) = Folder::with_key();
    assert_eq!(read(&folder.path(), "correct horse").unwrap().to_bytes(), key.to_bytes());
    assert_eq!(address(&folder.path()).unwrap(), key.address());
    assert!(
        matches!(read(&folder.path(), "correct horsf"), Err(ReadError::Passphrase(path)) if path == folder.path())
    );
    assert!(matches!(read(&folder.path(), ""), Err(ReadError::Passphrase(_))));
}

#[test]
fn the_secret_is_not_in_the_file() {
    let (folder, _) = Folder::with_key();
    let content = std::fs::read_to_string(folder.path()).unwrap();
    assert!(content.contains("ciphertext") && !content.contains(&hex::encode(SECRET)));
}

#[test]
fn two_files_of_one_key_share_nothing_but_the_address() {
    let (one, _) = Folder::with_key();
    let (two, _) = Folder::with_key();
    let parse = |folder: &Folder| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(folder.path()).unwrap()).unwrap()
    };
    let (one, two) = (parse(&one), parse(&two));
    for field in
        ["/id", "/crypto/ciphertext", "/crypto/cipherparams/iv", "/crypto/kdfparams/salt", "/crypto/mac"]
    {
        assert!(one.pointer(field).is_some(), "{field}");
        assert_ne!(one.pointer(field), two.pointer(field), "{field}");
    }
    assert_eq!(one.pointer("/address"), two.pointer("/address"));
}

#[test]
fn only_the_owner_can_open_it_and_others_files_are_refused() {
    let (folder, _) = Folder::with_key();
    let mode = || std::fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    for open in [0o640, 0o604, 0o660, 0o644] {
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(open)).unwrap();
        let error = read(&folder.path(), "correct horse").unwrap_err();
        assert!(matches!(error, ReadError::Permissions { mode, .. } if mode == open), "{error}");
        assert!(error.to_string().contains("chmod 600"));
    }
    assert!(address(&folder.path()).is_ok());
}

#[test]
fn nothing_is_ever_overwritten() {
    let (folder, _) = Folder::with_key();
    let before = std::fs::read(folder.path()).unwrap();
    let other = generate().unwrap();
    let again = create(&folder.path(), &other, "x", Strength::Light);
    assert!(matches!(again, Err(CreateError::Exists(path)) if path == folder.path()));
    assert_eq!(std::fs::read(folder.path()).unwrap(), before);
    // A link that leads nowhere is something, too.
    let link = folder.0.path().join("link");
    std::os::unix::fs::symlink(folder.0.path().join("nowhere"), &link).unwrap();
    assert!(matches!(create(&link, &other, "x", Strength::Light), Err(CreateError::Exists(_))));
    assert_eq!(std::fs::read_dir(folder.0.path()).unwrap().count(), 2);
}

#[test]
fn a_missing_folder_is_said() {
    let folder = Folder::new();
    let path = folder.0.path().join("no/such/folder/key.json");
    let error = create(&path, &generate().unwrap(), "x", Strength::Light).unwrap_err();
    assert!(matches!(&error, CreateError::Write { .. }) && error.to_string().contains("no/such/folder"));
    assert!(matches!(read(&path, "x"), Err(ReadError::Read { .. })));
}

#[test]
fn what_is_no_key_file_is_said() {
    assert!(matches!(reason(""), FormatError::Json(_)));
    assert!(matches!(reason("{\"version\":3}"), FormatError::Json(_)));
    assert!(matches!(reason(&PBKDF2.replace("\"version\":3", "\"version\":1")), FormatError::Version(1)));
    assert!(matches!(reason(&" ".repeat(20_000)), FormatError::TooLarge));
    assert!(matches!(reason(&PBKDF2.replace("aes-128-ctr", "aes-256-gcm")), FormatError::Field("cipher")));
    assert!(matches!(
        reason(&PBKDF2.replace("hmac-sha256", "hmac-md5")),
        FormatError::Field("kdfparams.prf")
    ));
    assert!(matches!(reason(&PBKDF2.replace("aa46", "aa4")), FormatError::Field("ciphertext")));
    assert!(matches!(reason(&PBKDF2.replace("\"dklen\":32", "\"dklen\":16")), FormatError::Field(_)));
    assert!(matches!(reason(&PBKDF2.replace("pbkdf2", "argon2")), FormatError::Json(_)));
}

#[test]
fn absurd_costs_are_refused_before_they_are_paid() {
    let scrypt = |n: u64, r: u32, p: u32| {
        reason(&SCRYPT.replace("\"n\":262144,\"p\":8,\"r\":1", &format!("\"n\":{n},\"p\":{p},\"r\":{r}")))
    };
    assert!(matches!(scrypt(1 << 30, 8, 1), FormatError::Cost));
    assert!(matches!(scrypt(1 << 18, u32::MAX, u32::MAX), FormatError::Cost));
    assert!(matches!(scrypt(1 << 63, 8, 1), FormatError::Cost));
    assert!(matches!(scrypt(2, 1, u32::MAX), FormatError::Cost));
    assert!(matches!(scrypt(262_143, 8, 1), FormatError::Field(_)));
    assert!(matches!(scrypt(0, 8, 1), FormatError::Field(_)));
    assert!(matches!(reason(&PBKDF2.replace("\"c\":262144", "\"c\":4294967295")), FormatError::Cost));
    assert!(matches!(reason(&PBKDF2.replace("\"c\":262144", "\"c\":0")), FormatError::Cost));
}

#[test]
fn a_wrongly_stated_address_is_found() {
    let (folder, _) = Folder::with_key();
    let stated = hex::encode(address(&folder.path()).unwrap().0);
    let content = std::fs::read_to_string(folder.path()).unwrap().replace(&stated, &"11".repeat(20));
    let changed = Folder::with(&content);
    let error = read(&changed.path(), "correct horse").unwrap_err();
    assert!(matches!(error, ReadError::Format { reason: FormatError::Mismatch, .. }), "{error}");
}

#[test]
fn a_flipped_bit_of_the_ciphertext_never_gives_a_key() {
    let (folder, _) = Folder::with_key();
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.path()).unwrap()).unwrap();
    let mut text: [u8; 32] = hex::decode_to_array(json["crypto"]["ciphertext"].as_str().unwrap()).unwrap();
    text[31] ^= 1;
    json["crypto"]["ciphertext"] = hex::encode(text).into();
    let changed = Folder::with(&json.to_string());
    assert!(matches!(read(&changed.path(), "correct horse"), Err(ReadError::Passphrase(_))));
}

#[test]
fn errors_and_debug_output_show_no_secret() {
    let (folder, key) = Folder::with_key();
    let error = read(&folder.path(), "swordfish").unwrap_err();
    let said = format!("{error:?} {error} {key:?}").to_lowercase();
    assert!(!said.contains("swordfish"), "{said}");
    // In none of the ways in which bytes are printed.
    assert!(!said.contains(&hex::encode(SECRET)) && !said.contains(&format!("{SECRET:?}")), "{said}");
}
