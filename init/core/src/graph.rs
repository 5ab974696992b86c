//! Dependencies between units: what is missing, what is circular. Pure.

use crate::unit::Unit;
use std::collections::BTreeMap;

/// Why a unit can never be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// It names a unit that does not exist.
    #[error(
        "`{key}` names `{missing}`, which is not a unit; add {missing}.toml or remove the word"
    )]
    Missing {
        /// `requires` or `after`.
        key: &'static str,
        /// The name.
        missing: String,
    },
    /// It waits for itself.
    #[error("waits for itself: {}; remove one of these dependencies", path.join(" -> "))]
    Cycle {
        /// From the unit round to the unit.
        path: Vec<String>,
    },
}

/// Everything a unit waits for, with the key that says so.
pub fn dependencies(unit: &Unit) -> impl Iterator<Item = (&'static str, &str)> {
    let requires = unit.requires.iter().map(|name| ("requires", name.as_str()));
    requires.chain(unit.after.iter().map(|name| ("after", name.as_str())))
}

/// The units that can never be started, by name, each with the first reason found. Units that only
/// depend on such a unit are not listed: they wait.
pub fn check(units: &[Unit]) -> BTreeMap<String, GraphError> {
    let by_name: BTreeMap<&str, &Unit> =
        units.iter().map(|unit| (unit.name.as_str(), unit)).collect();
    let mut errors = BTreeMap::new();
    for unit in units {
        for (key, name) in dependencies(unit) {
            if !by_name.contains_key(name) {
                let error = GraphError::Missing { key, missing: name.to_owned() };
                errors.entry(unit.name.clone()).or_insert(error);
            }
        }
        if let Some(path) = cycle_through(&by_name, &unit.name) {
            errors.entry(unit.name.clone()).or_insert(GraphError::Cycle { path });
        }
    }
    errors
}

/// The shortest way from a unit back to itself.
fn cycle_through(by_name: &BTreeMap<&str, &Unit>, start: &str) -> Option<Vec<String>> {
    // Breadth first; `came_from` is also the set of units seen.
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(name) = queue.pop_front() {
        let Some(unit) = by_name.get(name) else { continue };
        for (_, next) in dependencies(unit) {
            if next == start {
                return Some(walk_back(&came_from, start, unit.name.as_str()));
            }
            if let Some((known, _)) = by_name.get_key_value(next)
                && !came_from.contains_key(known)
            {
                came_from.insert(known, &unit.name);
                queue.push_back(known);
            }
        }
    }
    None
}

fn walk_back(came_from: &BTreeMap<&str, &str>, start: &str, last: &str) -> Vec<String> {
    let mut path = vec![start.to_owned()];
    let mut name = last;
    // Bounded by the number of units seen, for each step goes to another one.
    for _ in 0..=came_from.len() {
        if name == start {
            break;
        }
        path.push(name.to_owned());
        name = came_from.get(name).copied().unwrap_or(start);
    }
    path.push(start.to_owned());
    path.reverse();
    path
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
            "waits for itself: a -> b -> c -> a; remove one of these dependencies"
        );
        assert!(errors["e"].to_string().contains("nobody.toml"));
        assert!(errors["f"].to_string().contains("f -> f"));
    }
}
