//! Reading JSON whose keys may be absent, null or of another kind than documented, without failing and without a copy.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A value that is not a list or an object.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Scalar<'a> {
    /// Absent, null, a list or an object.
    #[default]
    Nothing,
    /// True or false.
    Bool(bool),
    /// A whole number from 0.
    Unsigned(u64),
    /// A whole number below 0.
    Negative(i64),
    /// Another number.
    Float(f64),
    /// A string.
    Text(Cow<'a, str>),
}

impl<'a> Scalar<'a> {
    /// The string, when it is one.
    pub(crate) fn text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => Some(text),
            Self::Nothing | Self::Bool(_) | Self::Unsigned(_) | Self::Negative(_) | Self::Float(_) => None,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

/// A string, or nothing.
pub(crate) fn text<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cow<'a, str>>, D::Error> {
    Ok(Scalar::deserialize(deserializer)?.text())
}

/// True or false, or nothing.
pub(crate) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    Ok(match Scalar::deserialize(deserializer)? {
        Scalar::Bool(flag) => Some(flag),
        _ => None,
    })
}

/// Whether it is true.
pub(crate) fn is_true<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(flag(deserializer)? == Some(true))
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Scalar::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(u64::try_from(value).map_or(Scalar::Negative(value), Scalar::Unsigned))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Float(value))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(value)))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Nothing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Nothing)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Nothing)
    }
}

/// An object, or anything else. A derived `Deserialize` alone would read a list as an object's values in order, and
/// fail at a string.
#[derive(Debug)]
pub(crate) struct IfObject<T>(pub(crate) Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for IfObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IfObjectVisitor(PhantomData))
    }
}

struct IfObjectVisitor<T>(PhantomData<T>);

/// The visits of a visitor that wants none of the values that are not a list or an object.
macro_rules! scalars_are {
    ($self:ident => $value:expr) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any value")
        }

        fn visit_bool<E>($self, _: bool) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_u64<E>($self, _: u64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_i64<E>($self, _: i64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_f64<E>($self, _: f64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_str<E>($self, _: &str) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_unit<E>($self) -> Result<Self::Value, E> {
            Ok($value)
        }
    };
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for IfObjectVisitor<T> {
    type Value = IfObject<T>;

    scalars_are!(self => IfObject(None));

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(IfObject(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|object| IfObject(Some(object)))
    }
}

/// An object, a list of which only the first element is kept, or anything else.
#[derive(Debug)]
pub(crate) enum ObjectOrList<O, F> {
    Object(O),
    List(Option<F>),
    Other,
}

impl<'de, O: Deserialize<'de>, F: Deserialize<'de>> Deserialize<'de> for ObjectOrList<O, F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ObjectOrListVisitor(PhantomData))
    }
}

struct ObjectOrListVisitor<O, F>(PhantomData<(O, F)>);

impl<'de, O: Deserialize<'de>, F: Deserialize<'de>> Visitor<'de> for ObjectOrListVisitor<O, F> {
    type Value = ObjectOrList<O, F>;

    scalars_are!(self => ObjectOrList::Other);

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let first = seq.next_element::<IfObject<F>>()?;
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(ObjectOrList::List(first.and_then(|first| first.0)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        O::deserialize(MapAccessDeserializer::new(map)).map(ObjectOrList::Object)
    }
}

/// Reads a list element by element into `state`; `None` for anything but a list.
pub(crate) fn each<'de, D, T, S>(deserializer: D, state: S, take: fn(&mut S, T)) -> Result<Option<S>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_any(EachVisitor { state, take })
}

struct EachVisitor<T, S> {
    state: S,
    take: fn(&mut S, T),
}

impl<'de, T: Deserialize<'de>, S> Visitor<'de> for EachVisitor<T, S> {
    type Value = Option<S>;

    scalars_are!(self => None);

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Self::Value, A::Error> {
        while let Some(element) = seq.next_element()? {
            (self.take)(&mut self.state, element);
        }
        Ok(Some(self.state))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}
