//! Blocks, receipts and logs: consistent, and their hashes and roots recompute.

use crate::{deploy, keep, manual, mine, quiet, send, start, transfer};
use alloy::consensus::{Header, TxReceipt};
use alloy::eips::{BlockId, BlockNumberOrTag, Encodable2718};
use alloy::network::TransactionBuilder;
use alloy::primitives::{Address, B256, Bloom, Bytes, U256, address, keccak256};
use alloy::providers::{DynProvider, Provider};
use alloy::rpc::types::{Filter, TransactionRequest};
use alloy_rlp::Decodable;
use windlass_protocol::trie::ordered_root;

async fn header(provider: &DynProvider, number: u64) -> (B256, Header) {
    let raw: Bytes =
        provider.raw_request("debug_getRawHeader".into(), [BlockNumberOrTag::Number(number)]).await.unwrap();
    let mut rest = &raw[..];
    let header = Header::decode(&mut rest).unwrap();
    assert!(rest.is_empty());
    (keccak256(&raw), header)
}

#[tokio::test]
async fn every_hash_and_root_of_a_history_recomputes() {
    let (_chain, provider) = start(quiet()).await;
    let keeper = deploy(&provider).await;
    for word in 1..5 {
        send(&provider, keep(keeper, word)).await;
        send(&provider, transfer()).await;
    }
    mine(&provider, 1).await;
    assert_eq!(recompute(&provider).await, 10);
}

/// Recomputes every hash and root of the chain from what its blocks hold, and gives the newest block's number.
pub(crate) async fn recompute(provider: &DynProvider) -> u64 {
    let mut parent = B256::ZERO;
    let newest = provider.get_block_number().await.unwrap();
    for number in 0..=newest {
        let (hash, header) = header(provider, number).await;
        let block = provider.get_block_by_number(number.into()).full().await.unwrap().unwrap();
        assert_eq!((block.header.hash, &block.header.inner), (hash, &header));
        assert_eq!((header.parent_hash, header.number), (parent, number));
        let by_hash = provider.get_block_by_hash(hash).full().await.unwrap().unwrap();
        assert_eq!(by_hash, block);
        let transactions: Vec<_> = block.transactions.txns().map(|tx| tx.inner.encoded_2718()).collect();
        assert_eq!(ordered_root(&transactions), header.transactions_root);
        let receipts = provider.get_block_receipts(BlockId::hash(hash)).await.unwrap().unwrap();
        let encoded: Vec<_> = receipts
            .iter()
            .map(|receipt| receipt.inner.clone().map_logs(|log| log.inner).encoded_2718())
            .collect();
        assert_eq!(ordered_root(&encoded), header.receipts_root);
        let bloom = receipts.iter().fold(Bloom::ZERO, |bloom, receipt| bloom | receipt.inner.bloom());
        assert_eq!(bloom, header.logs_bloom);
        assert_eq!(receipts.iter().map(|receipt| receipt.gas_used).sum::<u64>(), header.gas_used);
        for (transaction, receipt) in block.transactions.txns().zip(&receipts) {
            let hash = receipt.transaction_hash;
            assert_eq!(provider.get_transaction_by_hash(hash).await.unwrap().as_ref(), Some(transaction));
            assert_eq!(provider.get_transaction_receipt(hash).await.unwrap().as_ref(), Some(receipt));
        }
        parent = hash;
    }
    newest
}

#[tokio::test]
async fn logs_are_found_by_range_hash_address_and_topic() {
    let (_chain, provider) = start(quiet()).await;
    let (one, two) = (deploy(&provider).await, deploy(&provider).await);
    let mut receipts = Vec::new();
    for (keeper, word) in [(one, 1), (two, 2), (one, 3)] {
        receipts.push(send(&provider, keep(keeper, word)).await);
    }
    let find = async |filter: Filter| {
        let logs = provider.get_logs(&filter).await.unwrap();
        logs.iter().map(|log| U256::from_be_slice(&log.inner.data.data).to::<u64>()).collect::<Vec<_>>()
    };
    let all = Filter::new().from_block(0);
    let seven = B256::from(U256::from(7).to_be_bytes());
    assert_eq!(find(all.clone()).await, [1, 2, 3]);
    assert_eq!(find(Filter::new()).await, [3], "without a range, the newest block is meant");
    assert_eq!(find(all.clone().address(one)).await, [1, 3]);
    assert_eq!(find(all.clone().event_signature(seven)).await, [1, 2, 3]);
    assert_eq!(find(all.clone().event_signature(B256::ZERO)).await, [0; 0]);
    assert_eq!(find(all.clone().topic1(seven)).await, [0; 0]);
    assert_eq!(find(Filter::new().at_block_hash(receipts[1].block_hash.unwrap())).await, [2]);
    let second = receipts[1].block_number.unwrap();
    assert_eq!(find(Filter::new().from_block(second).to_block(second)).await, [2]);
    assert_eq!(find(Filter::new().from_block(second + 100).to_block(second + 200)).await, [0; 0]);
    assert!(provider.get_logs(&Filter::new().from_block(2).to_block(1)).await.is_err());
    assert!(provider.get_logs(&Filter::new().at_block_hash(B256::ZERO)).await.is_err());
    let log = &provider.get_logs(&all).await.unwrap()[1];
    assert_eq!(log, &receipts[1].inner.logs()[0]);
    assert_eq!((log.block_number, log.transaction_hash), (Some(second), Some(receipts[1].transaction_hash)));
}

#[tokio::test]
async fn the_system_contracts_know_earlier_hashes_and_beacon_roots() {
    let (_chain, provider) = start(quiet()).await;
    mine(&provider, 3).await;
    let ask = async |to: Address, word: U256| {
        let call = TransactionRequest::default().with_to(to).with_input(word.to_be_bytes::<32>().to_vec());
        provider.call(call).latest().await
    };
    // EIP-2935
    let history = address!("0000F90827F1C53a10cb7A02335B175320002935");
    for number in 0..3 {
        let (hash, _) = header(&provider, number).await;
        assert_eq!(ask(history, U256::from(number)).await.unwrap(), Bytes::from(hash));
    }
    assert!(ask(history, U256::from(3)).await.is_err(), "the newest block's own hash isn't in its state");
    let pending =
        TransactionRequest::default().with_to(history).with_input(U256::from(3).to_be_bytes::<32>().to_vec());
    let (hash, _) = header(&provider, 3).await;
    assert_eq!(provider.call(pending).pending().await.unwrap(), Bytes::from(hash), "but in the next one's");
    // EIP-4788
    let beacon_roots = address!("000F3df6D732807Ef1319fB7B8bB8522d0Beac02");
    let (_, newest) = header(&provider, 3).await;
    let root = ask(beacon_roots, U256::from(newest.timestamp)).await.unwrap();
    assert_eq!(root, Bytes::from(newest.parent_beacon_block_root.unwrap()));
}

#[tokio::test]
async fn tags_follow_finality() {
    let (_chain, provider) = start(manual()).await;
    mine(&provider, 4).await;
    let number =
        async |tag: BlockNumberOrTag| provider.get_block_by_number(tag).await.unwrap().unwrap().header.number;
    assert_eq!(number(BlockNumberOrTag::Earliest).await, 0);
    assert_eq!(number(BlockNumberOrTag::Latest).await, 4);
    assert_eq!(number(BlockNumberOrTag::Pending).await, 5);
    assert_eq!(number(BlockNumberOrTag::Finalized).await, 0);
    crate::ask(&provider, "dev_finalize", serde_json::json!(["0x3"])).await.unwrap();
    assert_eq!(number(BlockNumberOrTag::Finalized).await, 3);
    assert_eq!(number(BlockNumberOrTag::Safe).await, 3);
    assert!(crate::ask(&provider, "dev_finalize", serde_json::json!(["0x2"])).await.is_err());
    assert!(crate::ask(&provider, "dev_finalize", serde_json::json!(["0x5"])).await.is_err());
    assert_eq!(provider.get_block_by_number(9.into()).await.unwrap(), None);
}

#[tokio::test]
async fn timestamps_ascend_and_the_base_fee_falls_while_idle() {
    let (_chain, provider) = start(quiet()).await;
    mine(&provider, 5).await;
    let mut before = header(&provider, 0).await.1;
    for number in 1..=5 {
        let (_, header) = header(&provider, number).await;
        assert!(header.timestamp > before.timestamp);
        let fee = before.base_fee_per_gas.unwrap();
        assert_eq!(header.base_fee_per_gas.unwrap(), fee - fee / 8, "EIP-1559, of an empty parent");
        before = header;
    }
}
