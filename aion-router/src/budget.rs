//! Which renderings fit: a knapsack with a choice for each item, within budgets of surfaces.
//!
//! Two greedy orders are tried (by value for the token, and by value) and the better filling is kept;
//! neither stops at the first thing that does not fit. For items of one rendering and no other limit
//! than the total this is at least half of the best possible value.
//!
//! # Sources
//! H. Kellerer, U. Pferschy, D. Pisinger, Knapsack Problems, 2004, section 2.5 (greedy with the
//! largest item) and chapter 11 (multiple choice).

/// Something to be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate<C = Vec<u32>> {
    /// Which of the bins it belongs to.
    pub bin: usize,
    /// Which group of its bin it counts against, if that is limited.
    pub group: Option<usize>,
    /// What it is worth in full, at least 0.
    pub value: f64,
    /// The costs of its renderings, rising.
    pub costs: C,
    /// Whether it goes in before all others.
    pub must: bool,
}

/// The limits of one bin: a surface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bin {
    /// How many candidates at most.
    pub max_items: usize,
    /// How much they may cost together.
    pub max_cost: u32,
    /// How much is kept for it.
    pub floor: u32,
    /// How many candidates of one group at most.
    pub max_of_group: usize,
}

/// The share of a candidate's value that its `i`-th of `n` renderings has: the name alone is worth a
/// good part of the whole.
pub fn share(i: usize, n: usize) -> f64 {
    match (n - 1).saturating_sub(i) {
        0 => 1.0,
        1 => 0.8,
        _ => 0.5,
    }
}

/// The chosen rendering of each candidate; `None` for those left out.
///
/// Candidates come in the order in which ties are decided. The total is never exceeded, nor any limit
/// of a bin, whatever must go in.
///
/// ```
/// use aion_router::budget::{Bin, Candidate, fill};
///
/// let bins = [Bin { max_items: 9, max_cost: 100, floor: 0, max_of_group: 9 }];
/// let item = |value, cost| Candidate { bin: 0, group: None, value, costs: vec![cost], must: false };
/// // The dearest is the best single one, but the two cheap ones together are worth more.
/// assert_eq!(fill(&[item(0.5, 100), item(0.4, 50), item(0.4, 50)], &bins, 100), [None, Some(0), Some(0)]);
/// ```
pub fn fill<C: AsRef<[u32]>>(candidates: &[Candidate<C>], bins: &[Bin], total: u32) -> Vec<Option<usize>> {
    let by_density = greedy(candidates, bins, total, density);
    let by_value = greedy(candidates, bins, total, |candidate| candidate.value);
    if by_value.worth(candidates) > by_density.worth(candidates) {
        by_value.chosen
    } else {
        by_density.chosen
    }
}

fn density<C: AsRef<[u32]>>(candidate: &Candidate<C>) -> f64 {
    let costs = candidate.costs.as_ref();
    let cheapest = costs.first().copied().unwrap_or(1);
    candidate.value * share(0, costs.len()) / f64::from(cheapest.max(1))
}

/// Takes those first for which `of` is greatest.
fn greedy<C: AsRef<[u32]>>(
    candidates: &[Candidate<C>],
    bins: &[Bin],
    total: u32,
    of: impl Fn(&Candidate<C>) -> f64,
) -> Filling {
    let mut ordered: Vec<(f64, usize)> = candidates.iter().map(of).zip(0..).collect();
    // Stable, so that ties are decided by place; candidates mostly come in sorted runs, one for each bin, that it merges.
    ordered.sort_by(|a, b| b.0.total_cmp(&a.0));
    let ordered: Vec<usize> = ordered.into_iter().map(|(_, i)| i).collect();
    let mut filling = Filling::new(candidates, bins, total);
    for i in (0..candidates.len()).filter(|i| candidates[*i].must) {
        filling.put(i, &candidates[i], bins);
    }
    // First what is kept for each bin, then what is left for all.
    filling.keep_floors(bins);
    for i in &ordered {
        filling.put(*i, &candidates[*i], bins);
    }
    filling.free_floors();
    for i in &ordered {
        filling.put(*i, &candidates[*i], bins);
    }
    for i in &ordered {
        filling.enlarge(*i, &candidates[*i], bins);
    }
    filling
}

struct Filling {
    chosen: Vec<Option<usize>>,
    cost: Vec<u32>,
    items: Vec<usize>,
    groups: std::collections::BTreeMap<(usize, usize), usize>,
    /// What is kept for each bin and not used yet.
    kept: Vec<u32>,
    /// What is left that is kept for nobody.
    free: u32,
}

impl Filling {
    fn new<C>(candidates: &[Candidate<C>], bins: &[Bin], total: u32) -> Self {
        Self {
            chosen: vec![None; candidates.len()],
            cost: vec![0; bins.len()],
            items: vec![0; bins.len()],
            groups: std::collections::BTreeMap::new(),
            kept: vec![0; bins.len()],
            free: total,
        }
    }

    /// Sets aside, for each bin, what of its floor it has not used.
    fn keep_floors(&mut self, bins: &[Bin]) {
        for (i, bin) in bins.iter().enumerate() {
            let wanted = bin.floor.min(bin.max_cost).saturating_sub(self.cost[i]);
            let kept = wanted.min(self.free);
            self.kept[i] = kept;
            self.free -= kept;
        }
    }

    fn free_floors(&mut self) {
        self.free += self.kept.iter_mut().map(std::mem::take).sum::<u32>();
    }

    fn left(&self, bin: usize, bins: &[Bin]) -> u32 {
        (self.free + self.kept[bin]).min(bins[bin].max_cost - self.cost[bin])
    }

    fn pay(&mut self, bin: usize, cost: u32) {
        let kept = cost.min(self.kept[bin]);
        self.kept[bin] -= kept;
        self.free -= cost - kept;
        self.cost[bin] += cost;
    }

    /// Puts a candidate in with its cheapest rendering, if it fits.
    fn put<C: AsRef<[u32]>>(&mut self, i: usize, candidate: &Candidate<C>, bins: &[Bin]) {
        let (bin, limits) = (candidate.bin, &bins[candidate.bin]);
        let Some(cost) = candidate.costs.as_ref().first().copied() else {
            return;
        };
        let group = candidate.group.map(|group| (bin, group));
        let of_group = group.map_or(0, |group| self.groups.get(&group).copied().unwrap_or(0));
        let full =
            self.items[bin] >= limits.max_items || (group.is_some() && of_group >= limits.max_of_group);
        if self.chosen[i].is_some() || full || cost > self.left(bin, bins) {
            return;
        }
        self.pay(bin, cost);
        self.items[bin] += 1;
        if let Some(group) = group {
            self.groups.insert(group, of_group + 1);
        }
        self.chosen[i] = Some(0);
    }

    /// Shows a chosen candidate as fully as fits.
    fn enlarge<C: AsRef<[u32]>>(&mut self, i: usize, candidate: &Candidate<C>, bins: &[Bin]) {
        let Some(now) = self.chosen[i] else { return };
        let costs = candidate.costs.as_ref();
        let fuller = (now + 1..costs.len()).rev();
        let fits = |to: &usize| costs[*to] - costs[now] <= self.left(candidate.bin, bins);
        if let Some(to) = fuller.into_iter().find(fits) {
            self.pay(candidate.bin, costs[to] - costs[now]);
            self.chosen[i] = Some(to);
        }
    }

    fn worth<C: AsRef<[u32]>>(&self, candidates: &[Candidate<C>]) -> f64 {
        let chosen = self.chosen.iter().zip(candidates);
        chosen
            .filter_map(|(chosen, c)| chosen.map(|i| c.value * share(i, c.costs.as_ref().len())))
            .sum()
    }
}
