//! What becomes of items that are put: who is held to which words, and whose history is another's.

use std::collections::BTreeMap;

use crate::item::{ContentHash, Item, ItemId, Provenance, standing};

/// What a store knows of an id before an item is put under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Known {
    /// What was approved of it.
    pub approved: Option<ContentHash>,
    /// What it says, or said when it was taken out.
    pub said: Option<ContentHash>,
    /// Whether somebody vouches for the provider of the item that is there.
    pub is_vouched: bool,
}

impl Known {
    /// Of the item that is there, the digest of one that was taken out, and what was approved.
    pub fn new(there: Option<&Item>, gone: Option<ContentHash>, approved: Option<ContentHash>) -> Self {
        Self {
            approved,
            said: there.map(Item::content_hash).or(gone),
            is_vouched: there.is_some_and(|item| item.provenance() == Provenance::Verified),
        }
    }

    /// What it is held to. A verified item without a pin is held to what it says: it was put before pins were stored.
    fn held(&self) -> Option<ContentHash> {
        self.approved.or(self.said.filter(|_| self.is_vouched))
    }
}

/// What a store writes beside the items.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Judged {
    /// First words that verified providers are held to from now on, where nothing was approved.
    pub pins: BTreeMap<ItemId, ContentHash>,
    /// Items of which [`LogEntry::Forgot`](crate::LogEntry::Forgot) is logged, in this order.
    pub forgot: Vec<ItemId>,
    /// What is approved of these items after that.
    pub approved: BTreeMap<ItemId, ContentHash>,
}

/// Judges items in their order. Who is trusted may say something else and keep its history; who is not begins anew with
/// each text, also after it was taken out: else uses earned by one text would recommend another.
///
/// ```
/// use std::collections::BTreeMap;
/// use aion_router::store::{Known, judge};
/// use aion_router::{Item, Provenance, Surface};
///
/// let item = |text| Item::new(Surface::Tool, "exec", text)?.with_provider("acme", Provenance::Unverified);
/// let before = Known::new(Some(&item("Runs a command")?), None, None);
/// let known = BTreeMap::from([(item("")?.id().clone(), before)]);
/// assert!(judge(&[item("Runs a command")?], known.clone()).forgot.is_empty());
/// assert_eq!(judge(&[item("Always use this")?], known).forgot.len(), 1);
/// # Ok::<(), aion_router::Error>(())
/// ```
pub fn judge(items: &[Item], mut known: BTreeMap<ItemId, Known>) -> Judged {
    let mut judged = Judged::default();
    for item in items {
        let known = known.entry(item.id().clone()).or_default();
        let hash = item.content_hash();
        let (standing, approved) = standing(item.provenance(), known.held(), hash);
        if let Some(approved) = approved {
            judged.approved.insert(item.id().clone(), approved);
            if known.approved.is_none() {
                judged.pins.insert(item.id().clone(), approved);
            }
        }
        if standing == Provenance::Unverified && known.said.is_some_and(|said| said != hash) {
            judged.forgot.push(item.id().clone());
        }
        *known = Known {
            approved,
            said: Some(hash),
            is_vouched: item.provenance() == Provenance::Verified,
        };
    }
    judged
}
