//! The generated Rust: one module for each schema file, one struct for each structure, and the table of APIs.
//!
//! Lays out items; what stands inside them for a single field comes from `expr.rs`.

use std::fmt::Write;

use crate::expr::{choose, condition, default, random, read, rust_type, write};
use crate::notation::{Field, Kind, Message, Module, Range, Struct, Type};

/// The whole file.
pub(crate) fn source(modules: &[Module]) -> String {
    let mut out = Out::default();
    for module in modules {
        out.module(module);
    }
    out.table(modules);
    out.text
}

/// What a structure knows of the message that it is part of.
#[derive(Clone, Copy)]
struct Context {
    versions: Range,
    flexible: Option<i16>,
}

impl Context {
    fn ever_flexible(self) -> bool {
        self.flexible.is_some_and(|from| from <= self.versions.last)
    }

    /// The expression that says whether `version` is flexible.
    fn flex(self) -> String {
        match self.flexible.filter(|_| self.ever_flexible()) {
            None => "false".into(),
            Some(from) if from <= self.versions.first => "true".into(),
            Some(from) => format!("version >= {from}"),
        }
    }
}

#[derive(Default)]
struct Out {
    text: String,
}

impl Out {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn module(&mut self, module: &Module) {
        for line in &module.doc {
            self.line(&format!("/// {line}"));
        }
        self.line(&format!("pub mod {} {{", module.name));
        self.line("use super::prelude::*;");
        for message in &module.messages {
            let context = Context { versions: message.versions, flexible: message.flexible };
            self.structure(&message.body, context);
            self.message(message, module);
            if matches!(message.kind, Kind::Response { .. }) {
                self.errors(&message.body, context);
            }
        }
        self.line("}");
    }

    fn message(&mut self, message: &Message, module: &Module) {
        let name = &message.body.name;
        let Range { first, last } = message.versions;
        let flexible = message.flexible.map_or("i16::MAX".into(), |from| from.to_string());
        self.line(&format!(
            "impl Message for {name} {{
                const NAME: &'static str = \"{name}\";
                const VERSIONS: RangeInclusive<i16> = {first}..={last};
                const FLEXIBLE_FROM: i16 = {flexible};
                fn decode(d: &mut Decoder, version: i16) -> Result<Self, DecodeError> {{
                    d.known_version::<Self>(version)?;
                    Self::read(d, version)
                }}
                fn encode(&self, e: &mut Encoder, version: i16) {{ self.write(e, version); }}
            }}
            #[cfg(feature = \"arbitrary\")]
            impl Random for {name} {{
                fn random(g: &mut Source, version: i16) -> Self {{ Self::random(g, version) }}
            }}"
        ));
        match message.kind {
            Kind::Request { key } => {
                let answer = module.messages.iter().find(|other| other.kind == Kind::Response { key });
                let answer = answer.map_or("()", |answer| &answer.body.name);
                self.line(&format!("impl Request for {name} {{ const KEY: i16 = {key}; type Response = {answer};"));
                self.asked(&message.body);
                self.line("}");
            }
            Kind::Response { key } => self.line(&format!(
                "impl Response for {name} {{
                    const KEY: i16 = {key};
                    fn each_error(&self, version: i16, visit: &mut dyn FnMut(i16)) {{ self.errors(version, visit); }}
                }}"
            )),
            Kind::Data => {}
        }
    }

    fn structure(&mut self, body: &Struct, context: Context) {
        let name = &body.name;
        self.line(&format!("/// Kafka's `{name}`.\n#[derive(Debug, Clone, PartialEq)]\npub struct {name} {{"));
        for field in &body.fields {
            self.line(&format!("/// {}", field_doc(field, context)));
            self.line(&format!("pub {}: {},", field.name, rust_type(field)));
        }
        self.line("}");
        self.line(&format!("impl Default for {name} {{ fn default() -> Self {{ Self {{"));
        for field in &body.fields {
            self.line(&format!("{}: {},", field.name, default(field)));
        }
        self.line("} } }");
        self.line(&format!("impl {name} {{"));
        self.read(body, context);
        self.write(body, context);
        self.random(body, context);
        self.line("}");
        for field in &body.fields {
            if let Some(inner) = inner_struct(&field.ty) {
                self.structure(inner, context);
            }
        }
    }

    fn read(&mut self, body: &Struct, context: Context) {
        self.line("pub(crate) fn read(d: &mut Decoder, version: i16) -> Result<Self, DecodeError> {");
        self.line(&format!("let flex = {};\nlet _ = (version, flex);", context.flex()));
        let tagged = tagged(body);
        let mutable = if tagged.is_empty() { "" } else { "mut " };
        self.line(&format!("let {mutable}value = Self {{"));
        for field in &body.fields {
            let value = match field.tag {
                Some(_) => default(field),
                None => {
                    choose(condition(field.versions, context.versions), read(field, context.versions), default(field))
                }
            };
            self.line(&format!("{}: {value},", field.name));
        }
        self.line("};");
        if context.ever_flexible() && tagged.is_empty() {
            self.line("if flex { d.skip_tags()?; }");
        } else if context.ever_flexible() {
            self.line("if flex { d.tags(|d, tag| { match tag {");
            for (tag, field) in tagged {
                let guard =
                    condition(field.versions, context.versions).map_or(String::new(), |known| format!(" if {known}"));
                self.line(&format!("{tag}{guard} => value.{} = {},", field.name, read(field, context.versions)));
            }
            self.line("_ => return Ok(false), } Ok(true) })?; }");
        }
        self.line("Ok(value)\n}");
    }

    fn write(&mut self, body: &Struct, context: Context) {
        self.line("pub(crate) fn write(&self, e: &mut Encoder, version: i16) {");
        self.line(&format!("let flex = {};\nlet _ = (version, flex);", context.flex()));
        for field in body.fields.iter().filter(|field| field.tag.is_none()) {
            let statement = write(field, context.versions);
            match condition(field.versions, context.versions) {
                Some(condition) => self.line(&format!("if {condition} {{ {statement} }}")),
                None => self.line(&statement),
            }
        }
        let tagged = tagged(body);
        if context.ever_flexible() && tagged.is_empty() {
            self.line("if flex { e.no_tags(); }");
        } else if context.ever_flexible() {
            self.line("if flex {\nlet mut tags = Tags::default();");
            for (tag, field) in tagged {
                let mut set = format!("self.{} != {}", field.name, default(field));
                if let Some(known) = condition(field.versions, context.versions) {
                    set = format!("{known} && {set}");
                }
                let statement = write(field, context.versions);
                self.line(&format!("if {set} {{ tags.field({tag}, |e| {{ {statement} }}); }}"));
            }
            self.line("e.tags(tags);\n}");
        }
        self.line("}");
    }

    fn random(&mut self, body: &Struct, context: Context) {
        self.line("#[cfg(feature = \"arbitrary\")]");
        self.line("pub(crate) fn random(g: &mut Source, version: i16) -> Self { let _ = version; Self {");
        for field in &body.fields {
            let value =
                choose(condition(field.versions, context.versions), random(field, context.versions), default(field));
            self.line(&format!("{}: {value},", field.name));
        }
        self.line("} }");
    }

    /// What observers want to know of any request: see the trait.
    fn asked(&mut self, body: &Struct) {
        let is_topics = |field: &&Field| {
            matches!(field.ty, Type::Array(_)) && matches!(&*field.name, "topics" | "topic_data" | "topic_names")
        };
        let counts: Vec<String> = body.fields.iter().filter(is_topics).map(count).collect();
        if !counts.is_empty() {
            self.line(&format!("fn topic_count(&self) -> usize {{ {} }}", counts.join(" + ")));
        }
        if body.fields.iter().any(|field| field.name == "max_wait_ms") {
            self.line("fn max_wait_ms(&self) -> i32 { self.max_wait_ms }");
        }
    }

    /// The walk over the error codes of a response, of structures that have any.
    fn errors(&mut self, body: &Struct, context: Context) {
        self.line(&format!("impl {} {{", body.name));
        self.line("fn errors(&self, version: i16, visit: &mut dyn FnMut(i16)) {\nlet _ = (version, &visit);");
        for field in &body.fields {
            let name = &field.name;
            let is_code = is_error_code(field);
            let statement = match inner_struct(&field.ty).filter(|inner| has_errors(inner)) {
                _ if is_code => format!("visit(self.{name});"),
                Some(_) => match (&field.ty, field.nullable) {
                    (Type::Array(_), None) => format!("for one in &self.{name} {{ one.errors(version, visit); }}"),
                    (Type::Array(_), Some(_)) => {
                        format!("for one in self.{name}.iter().flatten() {{ one.errors(version, visit); }}")
                    }
                    (_, None) => format!("self.{name}.errors(version, visit);"),
                    (_, Some(_)) => format!("if let Some(one) = &self.{name} {{ one.errors(version, visit); }}"),
                },
                None => continue,
            };
            match condition(field.versions, context.versions) {
                Some(condition) => self.line(&format!("if {condition} {{ {statement} }}")),
                None => self.line(&statement),
            }
        }
        self.line("}\n}");
        for inner in body.fields.iter().filter_map(|field| inner_struct(&field.ty)).filter(|inner| has_errors(inner)) {
            self.errors(inner, context);
        }
    }

    /// What `crate::frame` looks up by key.
    fn table(&mut self, modules: &[Module]) {
        self.line("/// Every API of the codec, by key.\npub const APIS: &[Api] = &[");
        let mut requests: Vec<(i16, &Message)> = Vec::new();
        for message in modules.iter().flat_map(|module| &module.messages) {
            if let Kind::Request { key } = message.kind {
                requests.push((key, message));
            }
        }
        requests.sort_by_key(|(key, _)| *key);
        for (key, message) in requests {
            let Range { first, last } = message.versions;
            let flexible = message.flexible.map_or("i16::MAX".into(), |from| from.to_string());
            let api = &message.api;
            let _ = writeln!(
                self.text,
                "Api {{ key: {key}, name: \"{api}\", versions: {first}..={last}, flexible_from: {flexible} }},"
            );
        }
        self.line("];");
    }
}

/// The tagged fields, in the order in which they are written.
fn tagged(body: &Struct) -> Vec<(u32, &Field)> {
    let mut tagged: Vec<_> = body.fields.iter().filter_map(|field| Some((field.tag?, field))).collect();
    tagged.sort_by_key(|(tag, _)| *tag);
    tagged
}

/// How many elements an array has, null counting as none.
fn count(field: &Field) -> String {
    let name = &field.name;
    if field.nullable.is_some() {
        format!("self.{name}.as_ref().map_or(0, Vec::len)")
    } else {
        format!("self.{name}.len()")
    }
}

fn is_error_code(field: &Field) -> bool {
    field.name == "error_code" && matches!(&field.ty, Type::Number(name) if name == "i16")
}

fn has_errors(body: &Struct) -> bool {
    body.fields.iter().any(|field| is_error_code(field) || inner_struct(&field.ty).is_some_and(has_errors))
}

fn inner_struct(ty: &Type) -> Option<&Struct> {
    match ty {
        Type::Struct(body) => Some(body),
        Type::Array(element) => inner_struct(element),
        Type::Number(_) | Type::Uuid | Type::String | Type::Bytes | Type::Records => None,
    }
}

fn field_doc(field: &Field, context: Context) -> String {
    let Range { first, last } = field.versions;
    let versions = match condition(field.versions, context.versions) {
        None => "All versions.".into(),
        Some(_) if last == context.versions.last => format!("Versions {first} and later."),
        Some(_) => format!("Versions {first} to {last}."),
    };
    if field.doc.is_empty() { versions } else { format!("{versions} {}", field.doc) }
}
