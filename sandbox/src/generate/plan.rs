//! Which objects the org has.
//!
//! The best known standard objects come first, then one of every kind, then a mix: two fifths companions, the rest
//! standard, custom and packaged objects. So a larger org contains the smaller one of the same seed.

use std::collections::HashSet;

use fastrand::Rng;

use super::tables::{PLAIN, Plain, TABLES};
use crate::model::ObjectKind;

/// The best known, and between them one of every kind.
const FIRST: &[&str] = &[
    "Account",
    "Contact",
    "Lead",
    "Opportunity",
    "Case",
    "Task",
    "Event",
    "User",
    "Campaign",
    "Product2",
    "Service_Visit__c",
    "fleetly__Vehicle__c",
    "AccountHistory",
    "AccountShare",
    "AccountFeed",
    "AccountChangeEvent",
    "Region_Setting__mdt",
    "Order_Placed__e",
    "Sensor_Archive__b",
    "Ledger_Entry__x",
    "Knowledge__kav",
    "Integration_Switch__c",
    "Attachment",
    "BusinessHours",
    "AsyncOperationEvent",
    "Group",
    "Profile",
    "UserRole",
    "Pricebook2",
    "OpportunityLineItem",
    "Service_Visit__History",
    "Service_Visit__Share",
    "Service_Visit__ChangeEvent",
    "PricebookEntry",
    "Contract",
    "Order",
    "Asset",
    "CampaignMember",
    "OpportunityContactRole",
    "Quote",
];

/// Packages: their namespaces are invented.
const NAMESPACES: &[&str] = &["fleetly", "grantix", "billwise", "northq", "medlane", "acmecore"];

const ADJECTIVES: &[&str] = &[
    "Regional",
    "Annual",
    "Service",
    "Field",
    "Partner",
    "Vendor",
    "Customer",
    "Project",
    "Site",
    "Quality",
    "Safety",
    "Training",
    "Loyalty",
    "Rental",
    "Repair",
    "Warranty",
    "Delivery",
    "Return",
    "Budget",
    "Forecast",
    "Grant",
    "Donor",
    "Patient",
    "Claim",
    "Policy",
    "Property",
    "Fleet",
    "Energy",
    "Supply",
    "Market",
    "Store",
    "Membership",
    "Student",
];
const NOUNS: &[&str] = &[
    "Plan",
    "Visit",
    "Order",
    "Line",
    "Request",
    "Review",
    "Score",
    "Target",
    "Agreement",
    "Schedule",
    "Checklist",
    "Item",
    "Batch",
    "Transfer",
    "Adjustment",
    "Assignment",
    "Certificate",
    "Inspection",
    "Incident",
    "Invoice",
    "Payment",
    "Rate",
    "Region",
    "Route",
    "Session",
    "Survey",
    "Template",
    "Ticket",
    "Tier",
    "Unit",
    "Usage",
    "Zone",
    "Log",
    "Member",
    "Milestone",
    "Note",
    "Package",
    "Period",
    "Quota",
    "Record",
    "Response",
    "Summary",
    "Task",
    "Team",
];

/// An object that the org shall have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) name: String,
    pub(crate) kind: ObjectKind,
    /// The object that a companion belongs to.
    pub(crate) parent: Option<String>,
}

/// The names of an org of `count` objects.
pub(crate) fn objects(count: usize, seed: u64) -> Vec<Planned> {
    let mut plan = Plan { rng: super::rng(seed, "plan"), ..Plan::default() };
    let mut first = FIRST.iter();
    let mut standard = standard(&mut plan.rng).into_iter();
    while plan.objects.len() < count {
        if let Some(name) = first.next() {
            plan.add(known(name));
            continue;
        }
        let slot = plan.objects.len() % 10;
        let planned = match slot {
            1 | 3 | 5 | 8 => plan.companion(),
            0 | 2 | 6 => standard.next().map(known),
            _ => None,
        };
        let planned = planned.unwrap_or_else(|| plan.custom(slot));
        plan.add(planned);
    }
    plan.objects
}

fn standard(rng: &mut Rng) -> Vec<&'static str> {
    let mut plain: Vec<&str> = PLAIN.keys().copied().collect();
    rng.shuffle(&mut plain);
    TABLES.keys().map(String::as_str).chain(plain).filter(|name| !FIRST.contains(name)).collect()
}

/// What a name says about itself.
fn known(name: &str) -> Planned {
    let (kind, parent) = match name {
        "Integration_Switch__c" => (ObjectKind::CustomSetting, None),
        "AsyncOperationEvent" => (ObjectKind::PlatformEvent, None),
        _ if PLAIN.get(name) == Some(&Plain::Event) => (ObjectKind::PlatformEvent, None),
        _ if TABLES.contains_key(name) || PLAIN.contains_key(name) => {
            (if name.ends_with("__kav") { ObjectKind::Knowledge } else { ObjectKind::Standard }, None)
        }
        _ => by_suffix(name),
    };
    Planned { name: name.into(), kind, parent }
}

fn by_suffix(name: &str) -> (ObjectKind, Option<String>) {
    for (suffix, kind) in COMPANIONS {
        if let Some(stem) = name.strip_suffix(suffix) {
            let parent = stem.strip_suffix("__").map_or_else(|| stem.to_owned(), |stem| format!("{stem}__c"));
            return (kind, Some(parent));
        }
    }
    let kind = match name.rsplit_once("__").map(|(_, suffix)| suffix) {
        Some("mdt") => ObjectKind::CustomMetadata,
        Some("e") => ObjectKind::PlatformEvent,
        Some("b") => ObjectKind::BigObject,
        Some("x") => ObjectKind::External,
        _ => ObjectKind::Custom,
    };
    (kind, None)
}

const COMPANIONS: [(&str, ObjectKind); 4] = [
    ("History", ObjectKind::History),
    ("Share", ObjectKind::Share),
    ("Feed", ObjectKind::Feed),
    ("ChangeEvent", ObjectKind::ChangeEvent),
];

#[derive(Default)]
struct Plan {
    rng: Rng,
    objects: Vec<Planned>,
    taken: HashSet<String>,
    /// Companions that the objects so far could have.
    possible: Vec<Planned>,
}

impl Plan {
    fn add(&mut self, planned: Planned) {
        self.taken.insert(planned.name.to_lowercase());
        for (suffix, kind) in COMPANIONS {
            if has_companion(&planned, suffix) {
                let stem =
                    planned.name.strip_suffix("__c").map_or_else(|| planned.name.clone(), |stem| format!("{stem}__"));
                let companion = Planned { name: format!("{stem}{suffix}"), kind, parent: Some(planned.name.clone()) };
                if !FIRST.contains(&companion.name.as_str()) {
                    self.possible.push(companion);
                }
            }
        }
        self.objects.push(planned);
    }

    fn companion(&mut self) -> Option<Planned> {
        let choice = (!self.possible.is_empty()).then(|| self.rng.usize(..self.possible.len()))?;
        Some(self.possible.swap_remove(choice))
    }

    fn custom(&mut self, slot: usize) -> Planned {
        let kind = match self.rng.u8(..100) {
            0..8 => ObjectKind::CustomMetadata,
            8..14 => ObjectKind::PlatformEvent,
            14..18 => ObjectKind::BigObject,
            18..21 => ObjectKind::External,
            21..26 => ObjectKind::CustomSetting,
            _ => ObjectKind::Custom,
        };
        let suffix = match kind {
            ObjectKind::CustomMetadata => "mdt",
            ObjectKind::PlatformEvent => "e",
            ObjectKind::BigObject => "b",
            ObjectKind::External => "x",
            _ => "c",
        };
        let namespace = if slot % 2 == 1 { self.rng.choice(NAMESPACES).map(|ns| format!("{ns}__")) } else { None };
        let namespace = namespace.unwrap_or_default();
        for round in 0_usize.. {
            let adjective = self.rng.choice(ADJECTIVES).copied().unwrap_or_default();
            let noun = self.rng.choice(NOUNS).copied().unwrap_or_default();
            // After a few rounds names are scarce: number them.
            let number = if round < 4 { String::new() } else { format!("_{}", self.objects.len() + round) };
            let name = format!("{namespace}{adjective}_{noun}{number}__{suffix}");
            if !self.taken.contains(&name.to_lowercase()) {
                return Planned { name, kind, parent: None };
            }
        }
        unreachable!("numbered names do not run out")
    }
}

fn has_companion(planned: &Planned, suffix: &str) -> bool {
    match planned.kind {
        ObjectKind::Custom => true,
        ObjectKind::Standard => match TABLES.get(&planned.name) {
            Some(table) => table.companions.contains(&suffix),
            None => PLAIN.get(planned.name.as_str()) == Some(&Plain::Business),
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_org_has_exactly_as_many_objects_as_asked_each_once_and_contains_the_smaller_ones() {
        let all = objects(5_000, 7);
        for count in [0, 1, 12, 40, 1_000, 5_000] {
            let plan = objects(count, 7);
            assert_eq!(plan.len(), count);
            assert_eq!(plan, all[..count]);
        }
        let names: HashSet<_> = all.iter().map(|planned| planned.name.to_lowercase()).collect();
        assert_eq!(names.len(), 5_000);
    }

    #[test]
    fn two_fifths_of_a_large_org_are_companions_of_listed_objects() {
        let plan = objects(1_000, 1);
        let names: HashSet<_> = plan.iter().map(|planned| planned.name.as_str()).collect();
        let companions: Vec<_> = plan.iter().filter(|planned| planned.kind.is_companion()).collect();
        assert!((380..=420).contains(&companions.len()), "{}", companions.len());
        for companion in companions {
            assert!(names.contains(companion.parent.as_deref().unwrap()), "{}", companion.name);
        }
    }
}
