//! The Rust expressions that read, write and invent one field.
//!
//! `read` and `random` give an expression, `write` a statement. In scope where they stand: `d` (decoder), `e` (encoder)
//! or `g` (source of random values), `version` and `flex`.

use crate::notation::{Field, Range, Type};

/// The type of a field in Rust.
pub(crate) fn rust_type(field: &Field) -> String {
    let ty = bare_type(&field.ty);
    if field.nullable.is_some() { format!("Option<{ty}>") } else { ty }
}

fn bare_type(ty: &Type) -> String {
    match ty {
        Type::Number(name) => name.clone(),
        Type::Uuid => "Uuid".into(),
        Type::String => "Text".into(),
        Type::Bytes => "Bytes".into(),
        Type::Records => "Records".into(),
        Type::Struct(body) => body.name.clone(),
        Type::Array(element) => format!("Vec<{}>", bare_type(element)),
    }
}

/// The value of a field that nobody sets.
pub(crate) fn default(field: &Field) -> String {
    match (field.default.as_deref(), &field.ty) {
        (Some("null"), _) => "None".into(),
        (Some(value), Type::String) => format!("Text::from({value})"),
        (Some(value), Type::Number(name)) if name == "f64" => format!("{value} as f64"),
        (Some(value), _) => value.into(),
        (None, Type::Number(name)) if name == "bool" => "false".into(),
        (None, Type::Number(name)) if name == "f64" => "0.0".into(),
        (None, Type::Number(_)) => "0".into(),
        (None, ty) => {
            let is_array = matches!(ty, Type::Array(_));
            let empty = if is_array { "Vec::new()".into() } else { format!("{}::default()", bare_type(ty)) };
            if field.nullable.is_some() { format!("Some({empty})") } else { empty }
        }
    }
}

/// The condition under which `version` lies in `range`; none if it always does.
pub(crate) fn condition(range: Range, message: Range) -> Option<String> {
    match (range.first <= message.first, range.last >= message.last) {
        (true, true) => None,
        (false, true) => Some(format!("version >= {}", range.first)),
        (true, false) => Some(format!("version <= {}", range.last)),
        (false, false) if range.first == range.last => Some(format!("version == {}", range.first)),
        (false, false) => Some(format!("({}..={}).contains(&version)", range.first, range.last)),
    }
}

/// `then` where the condition holds, else `otherwise`; `then` alone without a condition.
pub(crate) fn choose(condition: Option<String>, then: String, otherwise: String) -> String {
    match condition {
        Some(condition) => format!("if {condition} {{ {then} }} else {{ {otherwise} }}"),
        None => then,
    }
}

fn flex(field: &Field) -> &'static str {
    if field.plain { "false" } else { "flex" }
}

/// Reads the field in a version that has it.
pub(crate) fn read(field: &Field, message: Range) -> String {
    let flex = flex(field);
    let plain = format!("{}?", read_bare(&field.ty, flex));
    let Some(nullable) = field.nullable else { return plain };
    let option = match &field.ty {
        Type::String => format!("d.nullable_string({flex})?"),
        Type::Bytes => format!("d.nullable_bytes({flex})?"),
        Type::Array(element) => format!("d.nullable_array({flex}, |d| {})?", read_bare(element, flex)),
        ty @ (Type::Struct(_) | Type::Number(_) | Type::Uuid | Type::Records) => {
            format!("d.nullable_struct(|d| {})?", read_bare(ty, flex))
        }
    };
    choose(condition(nullable, message), option, format!("Some({plain})"))
}

/// A call that gives a `Result`.
fn read_bare(ty: &Type, flex: &str) -> String {
    match ty {
        Type::Number(name) => format!("d.{name}()"),
        Type::Uuid => "d.uuid()".into(),
        Type::String => format!("d.string({flex})"),
        Type::Bytes => format!("d.bytes({flex})"),
        Type::Records => format!("d.records({flex})"),
        Type::Struct(body) => format!("{}::read(d, version)", body.name),
        Type::Array(element) => format!("d.array({flex}, |d| {})", read_bare(element, flex)),
    }
}

/// Writes the field in a version that has it.
pub(crate) fn write(field: &Field, message: Range) -> String {
    let flex = flex(field);
    let name = &field.name;
    let Some(nullable) = field.nullable else { return write_bare(&field.ty, &format!("self.{name}"), flex) };
    let (option, plain) = match &field.ty {
        Type::String => (
            format!("e.nullable_string(self.{name}.as_deref(), {flex});"),
            format!("e.string(self.{name}.as_deref().unwrap_or_default(), {flex});"),
        ),
        Type::Bytes => (
            format!("e.nullable_bytes(self.{name}.as_deref(), {flex});"),
            format!("e.bytes(self.{name}.as_deref().unwrap_or_default(), {flex});"),
        ),
        Type::Array(element) => {
            let each = write_element(element, flex);
            (
                format!("e.nullable_array(self.{name}.as_deref(), {flex}, {each});"),
                format!("e.array(self.{name}.as_deref().unwrap_or_default(), {flex}, {each});"),
            )
        }
        ty @ (Type::Struct(_) | Type::Number(_) | Type::Uuid | Type::Records) => (
            format!("e.nullable_struct(self.{name}.as_ref(), {});", write_element(ty, flex)),
            format!("self.{name}.clone().unwrap_or_default().write(e, version);"),
        ),
    };
    choose(condition(nullable, message), option, plain)
}

fn write_element(ty: &Type, flex: &str) -> String {
    match ty {
        Type::Number(name) => format!("|e, x| e.{name}(*x)"),
        Type::Uuid => "|e, x| e.uuid(*x)".into(),
        Type::String | Type::Bytes | Type::Records | Type::Struct(_) | Type::Array(_) => {
            format!("|e, x| {{ {} }}", write_bare(ty, "x", flex))
        }
    }
}

fn write_bare(ty: &Type, place: &str, flex: &str) -> String {
    match ty {
        Type::Number(name) => format!("e.{name}({place});"),
        Type::Uuid => format!("e.uuid({place});"),
        Type::String => format!("e.string(&{place}, {flex});"),
        Type::Bytes => format!("e.bytes(&{place}, {flex});"),
        Type::Records => format!("e.records(&{place}, {flex});"),
        Type::Struct(_) => format!("{place}.write(e, version);"),
        Type::Array(element) => format!("e.array(&{place}, {flex}, {});", write_element(element, flex)),
    }
}

/// A random value, in a version that has the field.
pub(crate) fn random(field: &Field, message: Range) -> String {
    let plain = random_bare(&field.ty);
    match field.nullable {
        None => plain,
        Some(nullable) => {
            choose(condition(nullable, message), format!("g.option(|g| {plain})"), format!("Some({plain})"))
        }
    }
}

fn random_bare(ty: &Type) -> String {
    match ty {
        Type::Number(name) => format!("g.{name}()"),
        Type::Uuid => "g.uuid()".into(),
        Type::String => "g.string()".into(),
        Type::Bytes => "g.bytes()".into(),
        Type::Records => "g.records()".into(),
        Type::Struct(body) => format!("{}::random(g, version)", body.name),
        Type::Array(element) => format!("g.array(|g| {})", random_bare(element)),
    }
}
