//! Dependencies between units: who waits for whom, what is missing, what is circular. Pure.

use crate::unit::Unit;
use std::collections::{BTreeMap, VecDeque};

/// Most names of a circle that are told.
const PATH_MAX: usize = 16;

/// Why a unit can never be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// It names a unit that does not exist.
    #[error(
        "`{key}` names `{missing}`, which is not a unit; add {missing}.toml or remove the word"
    )]
    Missing {
        /// The key that names it.
        key: &'static str,
        /// The name.
        missing: String,
    },
    /// It waits for itself.
    #[error("`{key}` makes it wait for itself: {}; remove one of these dependencies", path.join(" -> "))]
    Cycle {
        /// The key with which it names the second of the path.
        key: &'static str,
        /// From the unit round to the unit; of a long way the first names, `..` and the last one.
        path: Vec<String>,
    },
}

impl GraphError {
    /// The key of the unit's file that is to blame, and the word in its list.
    pub fn at(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Missing { key, missing } => (*key, Some(missing.as_str())),
            Self::Cycle { key, path } => (*key, path.get(1).map(String::as_str)),
        }
    }
}

/// How a unit depends on another one. All of them say that the other one comes first, and at the end of the
/// board last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It must be ready, now and as long as this one runs.
    Requires,
    /// It must have been ready once.
    Milestone,
    /// It is started too; how that ends is no matter.
    Wants,
    /// Its start must have ended, if there is one; how is no matter.
    After,
    /// The other one stops last (`stop_last`): nothing but the end of the board knows of this.
    Outlives,
}

impl Need {
    /// The key of a unit file.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Requires => "requires",
            Self::Milestone => "milestone",
            Self::Wants => "wants",
            Self::After => "after",
            Self::Outlives => "stop_last",
        }
    }

    /// True when the other unit is wanted because this one is.
    pub const fn pulls(self) -> bool {
        !matches!(self, Self::After | Self::Outlives)
    }
}

/// Every dependency by the units' places, in both directions.
#[derive(Debug, Default)]
pub struct Graph {
    needs: Rows,
    users: Rows,
}

/// The edges of every unit, one unit's after the other's: a board keeps them as long as it runs, and a list of
/// its own for each unit would cost more than what stands in it.
#[derive(Debug, Default)]
struct Rows {
    /// Where each unit's edges end.
    ends: Vec<usize>,
    edges: Vec<Edge>,
}

/// How a unit depends on another one, or another one on it, and the other one's place.
type Edge = (Need, usize);

impl Rows {
    fn new(rows: Vec<Vec<Edge>>) -> Self {
        let mut edges = Vec::with_capacity(rows.iter().map(Vec::len).sum());
        let mut ends = Vec::with_capacity(rows.len());
        for row in rows {
            edges.extend(row);
            ends.push(edges.len());
        }
        Self { ends, edges }
    }

    fn row(&self, index: usize) -> &[Edge] {
        let start = index.checked_sub(1).map_or(Some(&0), |before| self.ends.get(before));
        let row = start.zip(self.ends.get(index));
        row.and_then(|(start, end)| self.edges.get(*start..*end)).unwrap_or_default()
    }
}

impl Graph {
    /// The dependencies of units, and who outlives whom. Names that are no unit have no edge: [`check`] tells
    /// them.
    pub fn new(units: &[Unit]) -> Self {
        let mut needs = written(units);
        let_outlive(units, &mut needs);
        Self::of(needs)
    }

    fn of(needs: Vec<Vec<Edge>>) -> Self {
        let mut users = vec![Vec::new(); needs.len()];
        for (index, row) in needs.iter().enumerate() {
            for (need, to) in row {
                if let Some(users) = users.get_mut(*to) {
                    users.push((*need, index));
                }
            }
        }
        Self { needs: Rows::new(needs), users: Rows::new(users) }
    }

    /// What a unit depends on.
    pub fn needs(&self, index: usize) -> &[(Need, usize)] {
        self.needs.row(index)
    }

    /// The units that depend on a unit.
    pub fn users(&self, index: usize) -> &[(Need, usize)] {
        self.users.row(index)
    }

    /// True for the units that may lie on a circle: what is left when units that wait for nobody, and units
    /// for which nobody waits, are taken away again and again.
    fn suspects(&self) -> Vec<bool> {
        let count = self.needs.ends.len();
        let mut left = vec![true; count];
        for (out, back) in [(&self.needs, &self.users), (&self.users, &self.needs)] {
            let mut open: Vec<usize> = (0..count).map(|index| out.row(index).len()).collect();
            let mut free: Vec<usize> =
                (0..open.len()).filter(|index| open.get(*index) == Some(&0)).collect();
            while let Some(index) = free.pop() {
                if let Some(left) = left.get_mut(index) {
                    *left = false;
                }
                for (_, other) in back.row(index) {
                    if let Some(count) = open.get_mut(*other) {
                        *count = count.saturating_sub(1);
                        if *count == 0 {
                            free.push(*other);
                        }
                    }
                }
            }
        }
        left
    }

    /// The key with which the first unit of a path names the second.
    fn key_of_first(&self, path: &[usize]) -> &'static str {
        let edges = path.first().map_or(&[][..], |first| self.needs(*first));
        let edge = edges.iter().find(|(_, to)| path.get(1) == Some(to));
        edge.map_or(Need::Requires, |(need, _)| *need).key()
    }

    /// The shortest way from a unit back to itself, along units that are suspects.
    fn circle(&self, start: usize, suspects: &[bool]) -> Option<Vec<usize>> {
        // Breadth first; `came_from` is also the set of units seen.
        let mut came_from: Vec<Option<usize>> = vec![None; self.needs.ends.len()];
        let mut queue = VecDeque::from([start]);
        while let Some(index) = queue.pop_front() {
            for (_, next) in self.needs(index) {
                if *next == start {
                    return Some(walk_back(&came_from, start, index));
                }
                if suspects.get(*next) == Some(&true)
                    && let Some(from @ None) = came_from.get_mut(*next)
                {
                    *from = Some(index);
                    queue.push_back(*next);
                }
            }
        }
        None
    }
}

/// What the units' files say, a row for each unit.
fn written(units: &[Unit]) -> Vec<Vec<Edge>> {
    let by_name: BTreeMap<&str, usize> =
        units.iter().enumerate().map(|(index, unit)| (unit.name.as_str(), index)).collect();
    let row = |unit| {
        let mut row: Vec<Edge> = Vec::new();
        for (need, name) in dependencies(unit) {
            if let Some(to) = by_name.get(name)
                && !row.contains(&(need, *to))
            {
                row.push((need, *to));
            }
        }
        row
    };
    units.iter().map(row).collect()
}

/// A unit that stops last outlives every unit but those that it, or another one of its kind, depends on
/// itself: so there is no circle.
fn let_outlive(units: &[Unit], needs: &mut [Vec<Edge>]) {
    let last: Vec<usize> = units
        .iter()
        .enumerate()
        .filter(|(_, unit)| unit.stop_last)
        .map(|(index, _)| index)
        .collect();
    let mut below = vec![false; units.len()];
    let mut open = last.clone();
    while let Some(index) = open.pop() {
        if let Some(seen @ false) = below.get_mut(index) {
            *seen = true;
            open.extend(needs.get(index).into_iter().flatten().map(|(_, to)| *to));
        }
    }
    for to in last {
        for (row, below) in needs.iter_mut().zip(&below) {
            if !below {
                row.push((Need::Outlives, to));
            }
        }
    }
}

fn walk_back(came_from: &[Option<usize>], start: usize, last: usize) -> Vec<usize> {
    let mut path = vec![start];
    let mut index = last;
    // Bounded by the number of units, for each step goes to another one.
    for _ in 0..came_from.len() {
        if index == start {
            break;
        }
        path.push(index);
        index = came_from.get(index).copied().flatten().unwrap_or(start);
    }
    path.push(start);
    path.reverse();
    path
}

/// Everything a unit waits for, with the way it does.
pub fn dependencies(unit: &Unit) -> impl Iterator<Item = (Need, &str)> {
    let lists = [
        (Need::Requires, &unit.requires),
        (Need::Milestone, &unit.milestone),
        (Need::Wants, &unit.wants),
        (Need::After, &unit.after),
    ];
    lists.into_iter().flat_map(|(need, list)| list.iter().map(move |name| (need, name)))
}

/// The units that can never be started, by name, each with the first reason found. Units that only
/// depend on such a unit are not listed: they wait. A unit that is only wanted may be missing.
pub fn check(units: &[Unit]) -> BTreeMap<String, GraphError> {
    let names: std::collections::BTreeSet<&str> =
        units.iter().map(|unit| unit.name.as_str()).collect();
    let graph = Graph::of(written(units));
    let suspects = graph.suspects();
    let mut errors = BTreeMap::new();
    for (index, unit) in units.iter().enumerate() {
        let missing = dependencies(unit)
            .find(|(need, name)| *need != Need::Wants && !names.contains(name))
            .map(|(need, name)| GraphError::Missing { key: need.key(), missing: name.to_owned() });
        let circular = || {
            let path =
                graph.circle(index, &suspects).filter(|_| suspects.get(index) == Some(&true));
            path.map(|path| GraphError::Cycle {
                key: graph.key_of_first(&path),
                path: names_of(units, &path),
            })
        };
        if let Some(error) = missing.or_else(circular) {
            errors.insert(unit.name.clone(), error);
        }
    }
    errors
}

fn names_of(units: &[Unit], path: &[usize]) -> Vec<String> {
    let name = |index: &usize| units.get(*index).map_or_else(String::new, |unit| unit.name.clone());
    if path.len() <= PATH_MAX {
        return path.iter().map(name).collect();
    }
    let first = path.iter().take(PATH_MAX).map(name);
    first.chain(["..".to_owned()]).chain(path.last().map(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str, requires: &[&str], after: &[&str]) -> Unit {
        let text = format!(
            "description = 'd'\nkind = 'service'\nexec = ['/x']\nrequires = {requires:?}\nafter = {after:?}\n"
        );
        crate::unit::parse(name, &text).unwrap()
    }

    #[test]
    fn a_good_graph_has_no_errors() {
        let units = [unit("a", &[], &[]), unit("b", &["a"], &[]), unit("c", &["a"], &["b"])];
        assert!(check(&units).is_empty());
        let graph = Graph::new(&units);
        assert_eq!(graph.needs(2), [(Need::Requires, 0), (Need::After, 1)]);
        assert_eq!(graph.users(0), [(Need::Requires, 1), (Need::Requires, 2)]);
    }

    #[test]
    fn who_stops_last_outlives_all_but_what_it_needs() {
        let last =
            |name: &str, requires: &[&str]| Unit { stop_last: true, ..unit(name, requires, &[]) };
        let units = [
            unit("state", &[], &[]),
            unit("share", &["state"], &["journal"]),
            last("journal", &["state"]),
            last("second", &["share"]),
            unit("other", &[], &[]),
        ];
        let graph = Graph::new(&units);
        let outlived = |index| {
            let needs = graph.needs(index).iter();
            needs.filter(|(need, _)| *need == Need::Outlives).map(|(_, to)| *to).collect::<Vec<_>>()
        };
        // `share` is below `second`, so that it may not wait for one of them to outlive it.
        assert_eq!([0, 1, 2, 3].map(outlived), [[]; 4]);
        assert_eq!(outlived(4), [2, 3]);
        assert!(check(&units).is_empty());
    }

    #[test]
    fn missing_units_and_cycles_are_named() {
        let units = [
            unit("a", &["b"], &[]),
            unit("b", &[], &["c"]),
            unit("c", &["a"], &[]),
            unit("d", &["a"], &[]),
            unit("e", &[], &["nobody"]),
            unit("f", &["f"], &[]),
        ];
        let errors = check(&units);
        assert_eq!(errors.keys().collect::<Vec<_>>(), ["a", "b", "c", "e", "f"]);
        assert_eq!(
            errors["a"].to_string(),
            "`requires` makes it wait for itself: a -> b -> c -> a; remove one of these dependencies"
        );
        assert!(errors["e"].to_string().contains("nobody.toml"));
        assert!(errors["f"].to_string().contains("f -> f"));
        assert_eq!(errors["a"].at(), ("requires", Some("b")));
        assert_eq!(errors["b"].at(), ("after", Some("c")));
        assert_eq!(errors["e"].at(), ("after", Some("nobody")));
        assert_eq!(errors["f"].at(), ("requires", Some("f")));
    }

    #[test]
    fn between_two_circles_is_no_circle() {
        let units = [
            unit("a", &["b"], &[]),
            unit("b", &["a"], &[]),
            unit("c", &["a"], &[]),
            unit("d", &["e", "c"], &[]),
            unit("e", &["d"], &[]),
        ];
        assert_eq!(check(&units).keys().collect::<Vec<_>>(), ["a", "b", "d", "e"]);
    }

    #[test]
    fn a_wanted_unit_may_be_missing() {
        let text = "description = 'd'\nkind = 'service'\nexec = ['/x']\nwants = ['nobody']\n";
        assert!(check(&[crate::unit::parse("x", text).unwrap()]).is_empty());
    }

    #[test]
    fn a_circle_of_a_thousand_is_told_in_short() {
        let name = |index: usize| format!("u{}", index % 1000);
        let units: Vec<Unit> =
            (0..1000).map(|index| unit(&name(index), &[&name(index + 1)], &[])).collect();
        let errors = check(&units);
        assert_eq!(errors.len(), 1000);
        assert!(errors.values().all(|error| error.to_string().len() < 300));
    }
}
