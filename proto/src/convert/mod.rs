//! Converts the types of `mcpd_common` to messages and back.
//!
//! [`Wire`] converts one field. `mirror!` and `mirror_enum!` generate the conversion of a type from the
//! names of its fields; if a field is missing, the code does not compile. Types with another shape in the
//! proto file (a `oneof`) are converted by hand in `event.rs`.

use jiff::Timestamp;
use mcpd_common::ids::{Pgid, Pid, Port, RunId, WorkerName};

mod event;
mod report;
mod status;

/// A message with a missing or invalid field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct ConvertError {
    /// The path of the field: `workers.pid`.
    pub field: String,
    /// Why its value is invalid.
    pub reason: String,
}

impl ConvertError {
    fn new(reason: impl ToString) -> Self {
        Self { field: String::new(), reason: reason.to_string() }
    }

    fn missing() -> Self {
        Self::new("missing")
    }

    /// Adds the name of the message's field to the front of the path.
    fn inside(mut self, field: &str) -> Self {
        let dot = if self.field.is_empty() { "" } else { "." };
        self.field = format!("{field}{dot}{}", self.field);
        self
    }
}

/// Converts a value to `M`, its type in a message, and back.
trait Wire<M>: Sized {
    fn to_wire(self) -> M;
    fn from_wire(message: M) -> Result<Self, ConvertError>;
}

impl<M, T: Wire<M>> Wire<Option<M>> for Option<T> {
    fn to_wire(self) -> Option<M> {
        self.map(T::to_wire)
    }
    fn from_wire(message: Option<M>) -> Result<Self, ConvertError> {
        message.map(T::from_wire).transpose()
    }
}

impl<M, T: Wire<M>> Wire<Vec<M>> for Vec<T> {
    fn to_wire(self) -> Vec<M> {
        self.into_iter().map(T::to_wire).collect()
    }
    fn from_wire(message: Vec<M>) -> Result<Self, ConvertError> {
        message.into_iter().map(T::from_wire).collect()
    }
}

/// [`Wire`] for types that a message uses as they are.
macro_rules! same {
    ($($type:ty),+) => {$(
        impl Wire<$type> for $type {
            fn to_wire(self) -> $type {
                self
            }
            fn from_wire(message: $type) -> Result<Self, ConvertError> {
                Ok(message)
            }
        }
    )+};
}

/// [`Wire`] for types that a message has as a string.
macro_rules! as_text {
    ($($type:ty),+) => {$(
        impl Wire<String> for $type {
            fn to_wire(self) -> String {
                self.to_string()
            }
            fn from_wire(message: String) -> Result<Self, ConvertError> {
                message.parse().map_err(ConvertError::new)
            }
        }
    )+};
}

same!(bool, i32, u32, u64, String);
as_text!(WorkerName, RunId, Timestamp, char);

impl Wire<i32> for Pid {
    fn to_wire(self) -> i32 {
        self.get()
    }
    fn from_wire(message: i32) -> Result<Self, ConvertError> {
        Self::new(message).ok_or_else(|| ConvertError::new(format_args!("{message} is not a process id")))
    }
}

impl Wire<i32> for Pgid {
    fn to_wire(self) -> i32 {
        self.get()
    }
    fn from_wire(message: i32) -> Result<Self, ConvertError> {
        Pid::from_wire(message).map(Self::led_by)
    }
}

impl Wire<u32> for Port {
    fn to_wire(self) -> u32 {
        self.get().into()
    }
    fn from_wire(message: u32) -> Result<Self, ConvertError> {
        Self::new(message).ok_or_else(|| ConvertError::new(format_args!("{message} is not a port")))
    }
}

impl Wire<u32> for u8 {
    fn to_wire(self) -> u32 {
        self.into()
    }
    fn from_wire(message: u32) -> Result<Self, ConvertError> {
        message.try_into().map_err(ConvertError::new)
    }
}

/// `From`, `TryFrom` and [`Wire`] for a struct whose message has the same field names. Fields that the message
/// does not have are listed after `with`, with their values.
macro_rules! mirror {
    ($type:ty, $message:ty { $($field:ident),+ $(,)? } $(with { $($extra:ident: $value:expr),+ })?) => {
        impl From<$type> for $message {
            fn from(value: $type) -> Self {
                Self { $($field: value.$field.to_wire()),+ }
            }
        }

        impl TryFrom<$message> for $type {
            type Error = ConvertError;

            fn try_from(message: $message) -> Result<Self, ConvertError> {
                Ok(Self {
                    $($field: Wire::from_wire(message.$field).map_err(|error| error.inside(stringify!($field)))?,)+
                    $($($extra: $value.into()),+)?
                })
            }
        }

        $crate::convert::nested!($type, $message);
    };
}

/// [`Wire`] for a type with `From` and `TryFrom`: as an element of a list, and as a required field. Protobuf has no
/// required fields, so the message has an `Option` there.
macro_rules! nested {
    ($type:ty, $message:ty) => {
        impl Wire<$message> for $type {
            fn to_wire(self) -> $message {
                self.into()
            }
            fn from_wire(message: $message) -> Result<Self, ConvertError> {
                message.try_into()
            }
        }

        impl Wire<Option<$message>> for $type {
            fn to_wire(self) -> Option<$message> {
                Some(self.into())
            }
            fn from_wire(message: Option<$message>) -> Result<Self, ConvertError> {
                message.ok_or_else(ConvertError::missing)?.try_into()
            }
        }
    };
}

/// [`Wire`], `From` and `TryFrom` for an enum whose message has the same variants and `Unspecified`.
macro_rules! mirror_enum {
    ($type:ty, $message:ty { $($variant:ident),+ $(,)? }) => {
        impl From<$type> for $message {
            fn from(value: $type) -> Self {
                match value {
                    $(<$type>::$variant => Self::$variant),+
                }
            }
        }

        impl TryFrom<$message> for $type {
            type Error = ConvertError;

            fn try_from(message: $message) -> Result<Self, ConvertError> {
                match message {
                    <$message>::Unspecified => Err(ConvertError::missing()),
                    $(<$message>::$variant => Ok(Self::$variant)),+
                }
            }
        }

        impl Wire<i32> for $type {
            fn to_wire(self) -> i32 {
                <$message>::from(self).into()
            }
            fn from_wire(number: i32) -> Result<Self, ConvertError> {
                <$message>::try_from(number)
                    .map_err(|_| ConvertError::new(format_args!("{number} is unknown to this version of mcpd")))?
                    .try_into()
            }
        }
    };
}

use {mirror, mirror_enum, nested};
