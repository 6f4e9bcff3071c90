//! The push that says nothing but the newest head: most of what watchers are told, so it is encoded once for all of them.

use crate::head::ServedHead;
use std::sync::{Arc, Mutex, PoisonError};
use windlass_protocol::message::watch::{FromNode, Push};
use windlass_protocol::wire;

/// The newest head's push, as it is sent.
#[derive(Default)]
pub(super) struct News(Mutex<Option<(Arc<ServedHead>, Arc<[u8]>)>>);

impl News {
    /// The push of this head alone.
    pub(super) fn of(&self, head: &Arc<ServedHead>) -> Arc<[u8]> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, push)) = known.as_ref().filter(|(of, _)| Arc::ptr_eq(of, head)) {
            return push.clone();
        }
        let push = FromNode::Push(Push { slots: Vec::new(), bundle: head.bundle(Vec::new()) });
        let push: Arc<[u8]> = wire::encode(&push).into();
        *known = Some((head.clone(), push.clone()));
        push
    }
}
