//! What JSON cannot say, found before it is sent: numbers that are not finite would arrive as null,
//! and what is nested too deeply would not be read.

use std::fmt;

use serde::Serialize;
use serde::ser::{self, Serializer};

use crate::{Error, Result};

/// Nesting of a JSON value, as the stores bound it.
const MAX_DEPTH: u32 = 100;

/// Refuses what would not arrive as it is, by the name of the member that holds it.
pub(super) fn check(value: &impl Serialize) -> Result<()> {
    let mut walk = Walk {
        member: "request",
        depth: 0,
    };
    value
        .serialize(&mut walk)
        .map_err(|found| Error::invalid(found.member, found.why))
}

/// A serializer that writes nothing.
struct Walk {
    /// The member of the innermost struct.
    member: &'static str,
    /// Lists and maps within it.
    depth: u32,
}

#[derive(Debug)]
struct Found {
    member: &'static str,
    why: String,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.member, self.why)
    }
}

impl std::error::Error for Found {}

impl ser::Error for Found {
    fn custom<T: fmt::Display>(why: T) -> Self {
        Self {
            member: "request",
            why: why.to_string(),
        }
    }
}

type Step = std::result::Result<(), Found>;
type Open<'a> = std::result::Result<&'a mut Walk, Found>;

impl Walk {
    fn float(&self, value: f64) -> Step {
        if value.is_finite() {
            Ok(())
        } else {
            Err(self.found("it has a number that is not finite"))
        }
    }

    fn found(&self, why: &str) -> Found {
        Found {
            member: self.member,
            why: why.to_owned(),
        }
    }

    fn open(&mut self) -> Open<'_> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.found("it is nested too deeply"));
        }
        Ok(self)
    }

    fn member<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Step {
        let outside = (self.member, self.depth);
        (self.member, self.depth) = (name, 0);
        value.serialize(&mut *self)?;
        (self.member, self.depth) = outside;
        Ok(())
    }
}

macro_rules! nothing {
    ($($method:ident($($of:ty),*)),* $(,)?) => {
        $(fn $method(self, $(_: $of),*) -> Step { Ok(()) })*
    };
}

impl<'a> Serializer for &'a mut Walk {
    type Ok = ();
    type Error = Found;
    type SerializeSeq = &'a mut Walk;
    type SerializeTuple = &'a mut Walk;
    type SerializeTupleStruct = &'a mut Walk;
    type SerializeTupleVariant = &'a mut Walk;
    type SerializeMap = &'a mut Walk;
    type SerializeStruct = &'a mut Walk;
    type SerializeStructVariant = &'a mut Walk;

    nothing!(
        serialize_bool(bool),
        serialize_i8(i8),
        serialize_i16(i16),
        serialize_i32(i32),
        serialize_i64(i64),
        serialize_u8(u8),
        serialize_u16(u16),
        serialize_u32(u32),
        serialize_u64(u64),
        serialize_char(char),
        serialize_str(&str),
        serialize_bytes(&[u8]),
        serialize_none(),
        serialize_unit(),
        serialize_unit_struct(&'static str),
        serialize_unit_variant(&'static str, u32, &'static str),
    );

    fn serialize_f32(self, value: f32) -> Step {
        self.float(value.into())
    }

    fn serialize_f64(self, value: f64) -> Step {
        self.float(value)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Step {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Step {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Step {
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Open<'a> {
        self.open()
    }

    fn serialize_tuple(self, _: usize) -> Open<'a> {
        self.open()
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Open<'a> {
        self.open()
    }

    fn serialize_tuple_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Open<'a> {
        self.open()
    }

    fn serialize_map(self, _: Option<usize>) -> Open<'a> {
        self.open()
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Open<'a> {
        Ok(self)
    }

    fn serialize_struct_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Open<'a> {
        Ok(self)
    }
}

macro_rules! items {
    ($($name:ident . $method:ident),*) => {
        $(impl ser::$name for &mut Walk {
            type Ok = ();
            type Error = Found;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Step {
                value.serialize(&mut **self)
            }

            fn end(self) -> Step {
                self.depth -= 1;
                Ok(())
            }
        })*
    };
}

items!(
    SerializeSeq.serialize_element,
    SerializeTuple.serialize_element,
    SerializeTupleStruct.serialize_field,
    SerializeTupleVariant.serialize_field
);

macro_rules! members {
    ($($name:ident),*) => {
        $(impl ser::$name for &mut Walk {
            type Ok = ();
            type Error = Found;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Step {
                self.member(name, value)
            }

            fn end(self) -> Step {
                Ok(())
            }
        })*
    };
}

members!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for &mut Walk {
    type Ok = ();
    type Error = Found;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, _: &T) -> Step {
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Step {
        value.serialize(&mut **self)
    }

    fn end(self) -> Step {
        self.depth -= 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use aion_types::{Json, TaskId, Timestamp};

    use super::*;
    use crate::{Fence, NewTask, Op, Write};

    fn fence() -> Fence {
        Fence {
            task: TaskId::generate(Timestamp::from_ms(0)),
            epoch: 1,
        }
    }

    fn refused(op: Op) -> Option<&'static str> {
        match check(&Write::from(op)) {
            Err(Error::Invalid { what, .. }) => Some(what),
            _ => None,
        }
    }

    #[test]
    fn what_json_cannot_say_is_refused_by_name() {
        let nested = |levels| (0..levels).fold(Json::Null, |inner, _| Json::List(vec![inner]));
        let complete = |result| Op::Complete {
            fence: fence(),
            result,
        };
        assert_eq!(refused(complete(Json::Float(f64::NAN))), Some("result"));
        assert_eq!(
            refused(complete(Json::object([("a", Json::Float(f64::INFINITY))]))),
            Some("result")
        );
        assert_eq!(refused(complete(nested(101))), Some("result"));
        assert_eq!(refused(complete(nested(100))), None);
        let task = NewTask::new(fence().task, "k", "t").with_payload(Json::List(vec![Json::Float(f64::NAN)]));
        assert_eq!(refused(Op::Create(Box::new(task))), Some("payload"));
    }
}
