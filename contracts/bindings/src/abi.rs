//! Types generated from the committed ABIs, one module per contract. What each call, event and error means is
//! said in `contracts/src/interfaces`.
#![allow(missing_docs, clippy::too_many_arguments, reason = "generated from the ABI")]

/// Registry's calls, events and errors.
pub mod registry {
    alloy_sol_types::sol!(
        #[sol(all_derives)]
        Registry,
        "../artifacts/Registry.json"
    );
}

/// NameRegistrar's calls, events and errors.
pub mod name_registrar {
    alloy_sol_types::sol!(
        #[sol(all_derives)]
        NameRegistrar,
        "../artifacts/NameRegistrar.json"
    );
}

/// NodeStaking's calls, events and errors.
pub mod node_staking {
    alloy_sol_types::sol!(
        #[sol(all_derives)]
        NodeStaking,
        "../artifacts/NodeStaking.json"
    );
}

/// Settlement's calls, events and errors.
pub mod settlement {
    alloy_sol_types::sol!(
        #[sol(all_derives)]
        Settlement,
        "../artifacts/Settlement.json"
    );
}
