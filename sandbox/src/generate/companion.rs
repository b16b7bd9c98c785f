//! History, Share, Feed and ChangeEvent objects: their fields follow from the object that they belong to.

use super::plan::Planned;
use super::{Targets, label, tables};
use crate::model::{Field, FieldType, ListEntry, Object, ObjectKind};

pub(super) fn object(planned: &Planned, parent: Option<&Object>, targets: &Targets) -> Object {
    let parent_name = planned.parent.clone().unwrap_or_default();
    let mut fields = match planned.kind {
        ObjectKind::ChangeEvent => parent.map(change_event).unwrap_or_else(|| tables::parse(REPLAY)),
        kind => tables::parse(&table(kind, &parent_name)),
    };
    for field in &mut fields {
        field.reference_to = targets.resolve(&field.reference_to);
    }
    Object { entry: entry(planned, parent, &parent_name), fields, ..Object::default() }
}

/// Fields of a companion that is no change event.
pub(super) fn field_count(planned: &Planned) -> usize {
    tables::parse(&table(planned.kind, planned.parent.as_deref().unwrap_or_default())).len()
}

/// Fields that the change event of this object has.
pub(super) fn change_event_fields(object: &Object) -> usize {
    REPLAY_FIELDS + object.fields.iter().filter(|field| is_mirrored(field)).count()
}

const REPLAY: &str = "Id~id ReplayId~string(1000)~ro~nil:Replay ID ChangeEventHeader~complexvalue~ro~nil";

const REPLAY_FIELDS: usize = 3;

fn is_mirrored(field: &Field) -> bool {
    !matches!(field.name.as_str(), "Id" | "IsDeleted" | "SystemModstamp") && !field.calculated
}

fn change_event(parent: &Object) -> Vec<Field> {
    let mut fields = tables::parse(REPLAY);
    fields.extend(parent.fields.iter().filter(|field| is_mirrored(field)).map(|field| Field {
        nillable: field.kind != FieldType::Boolean,
        read_only: true,
        name_field: false,
        unique: false,
        cascade: false,
        restrict: false,
        ..field.clone()
    }));
    fields
}

fn table(kind: ObjectKind, parent: &str) -> String {
    let custom = parent.ends_with("__c");
    let to_parent = if custom {
        format!("ParentId~reference({parent})~ro~cascade~rel=Parent")
    } else {
        format!("{parent}Id~reference({parent})~ro~cascade~rel={parent}")
    };
    match kind {
        ObjectKind::History => format!(
            "Id~id IsDeleted~boolean~ro:Deleted {to_parent} CreatedById~reference(User)~ro~rel=CreatedBy \
             CreatedDate~datetime~ro~req Field~picklist~ro~restricted~req~values=created,Owner,Name,Status:Changed Field \
             DataType~picklist(40)~ro~restricted~values=Text,DateTime,Double,Boolean,EntityId \
             OldValue~anyType~ro~nil NewValue~anyType~ro~nil"
        ),
        ObjectKind::Share => {
            let level = if custom { "AccessLevel".to_owned() } else { format!("{parent}AccessLevel") };
            format!(
                "Id~id {to_parent} UserOrGroupId~reference(Group,User)~rel=UserOrGroup:User/Group ID \
                 {level}~picklist(40)~req~restricted~values=Read,Edit,All:Access Level \
                 RowCause~picklist(40)~restricted~values=Owner,Manual,Rule,ImplicitChild,Team \
                 LastModifiedDate~datetime~ro LastModifiedById~reference(User)~ro~rel=LastModifiedBy IsDeleted~boolean~ro"
            )
        }
        _ => format!(
            "Id~id ParentId~reference({parent})~ro~cascade~rel=Parent Type~picklist(40)~ro~restricted~\
             values=TrackedChange,UserStatus,TextPost,LinkPost,ContentPost,PollPost,CreateRecordEvent:Feed Item Type \
             CreatedById~reference(User)~ro~rel=CreatedBy CreatedDate~datetime~ro~req IsDeleted~boolean~ro:Deleted \
             LastModifiedDate~datetime~ro~req SystemModstamp~datetime~ro~req CommentCount~int~ro LikeCount~int~ro \
             Title~string(255)~ro~nil Body~textarea(10000)~ro~html LinkUrl~url(1000)~ro IsRichText~boolean~ro \
             RelatedRecordId~reference(ContentVersion)~ro~nil~rel=RelatedRecord \
             InsertedById~reference(User)~ro~nil~rel=InsertedBy BestCommentId~reference(FeedComment)~ro~nil~rel=BestComment"
        ),
    }
}

fn entry(planned: &Planned, parent: Option<&Object>, parent_name: &str) -> ListEntry {
    let parent_label = parent.map_or_else(|| label::of_object(parent_name).0, |parent| parent.entry.label.clone());
    let (suffix, kind) = match planned.kind {
        ObjectKind::History => ("History", "History"),
        ObjectKind::Share => ("Share", "Share"),
        ObjectKind::Feed => ("Feed", "Feed"),
        _ => ("Change Event", "ChangeEvent"),
    };
    let label = format!("{parent_label} {suffix}");
    let (share, changes) = (kind == "Share", kind == "ChangeEvent");
    ListEntry {
        name: planned.name.clone(),
        label_plural: label.clone(),
        label,
        associate_entity_type: Some(kind.into()),
        associate_parent_entity: Some(parent_name.into()),
        createable: share,
        deletable: share || kind == "Feed",
        queryable: !changes,
        replicateable: !share && !changes,
        retrieveable: true,
        triggerable: changes,
        updateable: share,
        ..ListEntry::default()
    }
}
