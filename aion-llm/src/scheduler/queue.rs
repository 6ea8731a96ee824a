//! Who waits, and who is next: first come first served for each client, the clients in turn.

use std::collections::VecDeque;
use std::sync::Arc;

/// Items in lanes, one for each client. The next item is the oldest of the lane whose turn it is; taking it puts that
/// lane behind all others. An item with `p` items before it in its lane, one of `c` lanes, is therefore taken after at
/// most `(p + 1) * c - 1` others, whoever comes later.
///
/// ```
/// use aion_llm::FairQueue;
/// let mut queue = FairQueue::default();
/// for (client, item) in [("a", 1), ("a", 2), ("a", 3), ("b", 4)] {
///     queue.push(&client.into(), item);
/// }
/// assert_eq!([queue.pop(), queue.pop(), queue.pop()], [Some(1), Some(4), Some(2)]);
/// ```
#[derive(Debug)]
pub struct FairQueue<T> {
    lanes: VecDeque<Lane<T>>,
    len: usize,
}

#[derive(Debug)]
struct Lane<T> {
    client: Arc<str>,
    items: VecDeque<T>,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self {
            lanes: VecDeque::new(),
            len: 0,
        }
    }
}

impl<T> FairQueue<T> {
    /// Items in all lanes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts an item at the end of its client's lane.
    pub fn push(&mut self, client: &Arc<str>, item: T) {
        self.len += 1;
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.client == *client) {
            return lane.items.push_back(item);
        }
        self.lanes.push_back(Lane {
            client: Arc::clone(client),
            items: VecDeque::from([item]),
        });
    }

    /// The next item.
    #[must_use]
    pub fn head(&self) -> Option<&T> {
        self.lanes.front()?.items.front()
    }

    /// All items, lane by lane.
    pub(crate) fn items(&self) -> impl Iterator<Item = &T> {
        self.lanes.iter().flat_map(|lane| &lane.items)
    }

    /// Takes the next item.
    pub fn pop(&mut self) -> Option<T> {
        let mut lane = self.lanes.pop_front()?;
        let item = lane.items.pop_front();
        if !lane.items.is_empty() {
            self.lanes.push_back(lane);
        }
        self.len -= usize::from(item.is_some());
        item
    }

    /// Takes out every item that `leaves` says.
    pub fn take(&mut self, leaves: impl Fn(&T) -> bool) -> Vec<T> {
        let mut out = Vec::new();
        for lane in &mut self.lanes {
            if lane.items.iter().any(&leaves) {
                let (gone, kept) = std::mem::take(&mut lane.items).into_iter().partition(&leaves);
                lane.items = kept;
                out.extend::<VecDeque<T>>(gone);
            }
        }
        self.lanes.retain(|lane| !lane.items.is_empty());
        self.len -= out.len();
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(i: usize) -> Arc<str> {
        i.to_string().into()
    }

    #[test]
    fn clients_take_turns_and_each_keeps_its_order() {
        let mut queue = FairQueue::default();
        for (who, item) in [(0, "a1"), (0, "a2"), (0, "a3"), (1, "b1"), (2, "c1"), (1, "b2")] {
            queue.push(&client(who), item);
        }
        assert_eq!(queue.head(), Some(&"a1"));
        assert_eq!(queue.take(|item| *item == "a2"), ["a2"]);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, ["a1", "b1", "c1", "a3", "b2"]);
        assert_eq!(queue.len(), 0);
    }

    proptest! {
        /// No item starves: it is taken within the bound that its place and the number of lanes give, even when every
        /// other client puts in two new items for each one that is taken.
        #[test]
        fn no_item_waits_longer_than_its_place(
            before in proptest::collection::vec(0usize..6, 0..40), mine in 0usize..6,
        ) {
            let mut queue = FairQueue::default();
            before.iter().for_each(|who| queue.push(&client(*who), false));
            queue.push(&client(mine), true);
            let place = before.iter().filter(|who| **who == mine).count();
            let mut taken = 0;
            while queue.pop() == Some(false) {
                taken += 1;
                (0..6).filter(|who| *who != mine).for_each(|who| {
                    queue.push(&client(who), false);
                    queue.push(&client(who), false);
                });
                prop_assert!(taken < (place + 1) * 6, "{taken} others came first");
            }
        }

        /// Nothing is lost and nothing comes twice.
        #[test]
        fn every_item_comes_once(who in proptest::collection::vec(0usize..4, 0..60), gone in 0usize..60) {
            let mut queue = FairQueue::default();
            who.iter().enumerate().for_each(|(i, who)| queue.push(&client(*who), i));
            let mut all = queue.take(|i| *i == gone);
            prop_assert_eq!(all.len(), usize::from(gone < who.len()));
            prop_assert_eq!(queue.len() + all.len(), who.len());
            all.extend(std::iter::from_fn(|| queue.pop()));
            all.sort_unstable();
            prop_assert_eq!(all, (0..who.len()).collect::<Vec<_>>());
        }
    }
}
