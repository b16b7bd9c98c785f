//! Custom fields added until the org has a given number of fields.

use std::collections::{BTreeMap, HashSet};

use super::{Targets, companion, custom};
use crate::model::Object;

/// Adds fields until the objects, and the change events that mirror some of them, have `total` together.
///
/// First every object gets a share by chance, so that they differ as real ones do; then those that no change event
/// mirrors, and which therefore count once, are filled up to exactly the total.
pub(super) fn pad(
    objects: &mut BTreeMap<String, Object>,
    mirrored: &HashSet<&str>,
    total: usize,
    targets: &Targets,
    seed: u64,
) {
    let weight = objects.len() + objects.keys().filter(|name| mirrored.contains(name.as_str())).count();
    let share = total.saturating_sub(size(objects, mirrored)) / weight.max(1);
    for (name, object) in objects.iter_mut() {
        let mut rng = super::rng(seed, &format!("{name} padding"));
        let count = rng.usize(share / 4..=share);
        custom::add_fields(object, count, targets, &mut rng);
    }
    let mut missing = total.saturating_sub(size(objects, mirrored));
    let mut single: Vec<(&String, &mut Object)> =
        objects.iter_mut().filter(|(name, _)| !mirrored.contains(name.as_str())).collect();
    let step = missing.div_ceil(single.len().max(1));
    for (name, object) in &mut single {
        let count = step.min(missing);
        let mut rng = super::rng(seed, &format!("{name} filling"));
        custom::add_fields(object, count, targets, &mut rng);
        missing -= count;
    }
}

fn size(objects: &BTreeMap<String, Object>, mirrored: &HashSet<&str>) -> usize {
    let one = |(name, object): (&String, &Object)| {
        let events = if mirrored.contains(name.as_str()) { companion::change_event_fields(object) } else { 0 };
        object.fields.len() + events
    };
    objects.iter().map(one).sum()
}
