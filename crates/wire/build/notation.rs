//! The notation of `schema/*.kafka`: text in, a tree of messages out, or `file:line: what is wrong`.
//!
//! Owns the syntax and its checks. Knows nothing of Rust; `emit.rs` does. The notation is specified in
//! `schema/README.md`.

use std::collections::HashSet;

/// One file: the request and the response of one API.
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) doc: Vec<String>,
    pub(crate) messages: Vec<Message>,
}

/// One outermost block.
pub(crate) struct Message {
    pub(crate) kind: Kind,
    /// Kafka's name of the API (`Produce`), or of the structure for `data`.
    pub(crate) api: String,
    pub(crate) versions: Range,
    /// `None`: no version is flexible.
    pub(crate) flexible: Option<i16>,
    pub(crate) body: Struct,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Request { key: i16 },
    Response { key: i16 },
    Data,
}

pub(crate) struct Struct {
    pub(crate) name: String,
    pub(crate) fields: Vec<Field>,
}

pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) doc: String,
    pub(crate) ty: Type,
    pub(crate) versions: Range,
    /// The versions in which null is allowed.
    pub(crate) nullable: Option<Range>,
    pub(crate) tag: Option<u32>,
    pub(crate) default: Option<String>,
    /// Keeps the old length form in flexible versions.
    pub(crate) plain: bool,
}

pub(crate) enum Type {
    /// A fixed-width value, named as in Rust (`i16`, `bool`).
    Number(String),
    Uuid,
    String,
    Bytes,
    Records,
    Struct(Struct),
    Array(Box<Type>),
}

/// Versions, both ends included.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Range {
    pub(crate) first: i16,
    pub(crate) last: i16,
}

impl Range {
    pub(crate) fn contains(self, other: Range) -> bool {
        self.first <= other.first && other.last <= self.last
    }
}

const NUMBERS: [&str; 7] = ["bool", "i8", "i16", "u16", "i32", "i64", "f64"];

/// Reads one schema file; `module` is its name without the ending.
pub(crate) fn parse(module: &str, text: &str) -> Result<Module, String> {
    let mut reader = Reader {
        file: module,
        lines: text.lines().enumerate(),
        number: 0,
        structs: HashSet::new(),
        has_flexible: false,
    };
    let mut parsed = Module { name: module.into(), doc: Vec::new(), messages: Vec::new() };
    while let Some(line) = reader.next_line() {
        if line.words.is_empty() {
            if parsed.messages.is_empty() && line.has_comment {
                parsed.doc.push(line.comment.into());
            }
            continue;
        }
        let message = reader.message(&line).map_err(|why| reader.at(&why))?;
        parsed.messages.push(message);
    }
    if parsed.messages.is_empty() {
        return Err(reader.at("the file has no block: it should have `request NAME key N versions V flexible V {`"));
    }
    Ok(parsed)
}

struct Line<'a> {
    words: Vec<&'a str>,
    comment: &'a str,
    has_comment: bool,
}

struct Reader<'a> {
    file: &'a str,
    lines: std::iter::Enumerate<std::str::Lines<'a>>,
    number: usize,
    structs: HashSet<String>,
    /// Whether the message that is being read has a flexible version.
    has_flexible: bool,
}

impl<'a> Reader<'a> {
    fn at(&self, why: &str) -> String {
        format!("schema/{}.kafka:{}: {why}", self.file, self.number)
    }

    fn next_line(&mut self) -> Option<Line<'a>> {
        let (index, line) = self.lines.next()?;
        self.number = index + 1;
        let (code, comment) = line.split_once('#').unwrap_or((line, ""));
        Some(Line {
            words: code.split_whitespace().collect(),
            comment: comment.trim(),
            has_comment: line.contains('#'),
        })
    }

    fn message(&mut self, line: &Line<'a>) -> Result<Message, String> {
        let mut words = Words { words: &line.words };
        let kind_word = words.next("`request`, `response` or `data`")?;
        let api = words.next("the name")?.to_owned();
        let kind = match kind_word {
            "request" => Kind::Request { key: words.key()? },
            "response" => Kind::Response { key: words.key()? },
            "data" => Kind::Data,
            other => return Err(format!("a block starts with `request`, `response` or `data`, not `{other}`")),
        };
        words.expect("versions")?;
        let versions = range(words.next("the versions")?, None)?;
        words.expect("flexible")?;
        let flexible = match words.next("`none` or the first flexible version")? {
            "none" => None,
            from => Some(range(from, Some(Range { first: 0, last: i16::MAX }))?.first),
        };
        words.expect("{")?;
        words.end()?;
        let name = match kind {
            Kind::Request { .. } => format!("{api}Request"),
            Kind::Response { .. } => format!("{api}Response"),
            Kind::Data => api.clone(),
        };
        self.has_flexible = flexible.is_some_and(|from| from <= versions.last);
        let body = self.structure(name, versions)?;
        Ok(Message { kind, api, versions, flexible, body })
    }

    /// The fields up to the closing brace.
    fn structure(&mut self, name: String, message: Range) -> Result<Struct, String> {
        if !self.structs.insert(name.clone()) {
            return Err(format!("the file has two structures `{name}`: give one of them a prefix"));
        }
        let mut fields: Vec<Field> = Vec::new();
        loop {
            let line = self.next_line().ok_or_else(|| format!("the block `{name}` is not closed by `}}`"))?;
            match line.words.as_slice() {
                [] => {}
                ["}"] => return Ok(Struct { name, fields }),
                words => {
                    let field = self.field(words, line.comment, message)?;
                    if fields.iter().any(|other| other.name == field.name) {
                        return Err(format!("`{name}` has two fields `{}`", field.name));
                    }
                    if field.tag.is_some() && fields.iter().any(|other| other.tag == field.tag) {
                        return Err(format!("`{name}` has two fields of the tag of `{}`", field.name));
                    }
                    fields.push(field);
                }
            }
        }
    }

    fn field(&mut self, words: &[&str], doc: &str, message: Range) -> Result<Field, String> {
        let (words, has_block) = match words {
            [head @ .., "{"] => (head, true),
            all => (all, false),
        };
        let mut words = Words { words };
        let name = words.next("the field's name")?.to_owned();
        let type_word = words.next("the field's type")?;
        let (type_word, always_null) = match type_word.strip_suffix('?') {
            Some(bare) => (bare, true),
            None => (type_word, false),
        };
        let mut versions = message;
        let mut nullable = always_null.then_some(message);
        let (mut tag, mut default, mut plain) = (None, None, false);
        while let Ok(word) = words.next("") {
            match word {
                "in" => versions = range(words.next("the versions behind `in`")?, Some(message))?,
                "null" => nullable = Some(range(words.next("the versions behind `null`")?, Some(message))?),
                "tag" => tag = Some(number(words.next("the number behind `tag`")?)?),
                "default" => default = Some(words.next("the value behind `default`")?.to_owned()),
                "plain" => plain = true,
                other => {
                    return Err(format!("`{name}`: an attribute is in, null, tag, default or plain, not `{other}`"));
                }
            }
        }
        if tag.is_some() && !self.has_flexible {
            return Err(format!("`{name}`: a message without a flexible version has no tags"));
        }
        let ty = self.ty(type_word, has_block, message)?;
        if default.as_deref() == Some("null") && nullable.is_none() {
            return Err(format!("`{name}`: the default is null, but null is not allowed: write `{type_word}?`"));
        }
        let cannot_be_null = matches!(ty, Type::Number(_) | Type::Uuid | Type::Records);
        if cannot_be_null && nullable.is_some() {
            return Err(format!("`{name}`: a `{type_word}` has no null of its own"));
        }
        Ok(Field { name, doc: doc.into(), ty, versions, nullable, tag, default, plain })
    }

    fn ty(&mut self, word: &str, has_block: bool, message: Range) -> Result<Type, String> {
        if let Some(element) = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')) {
            return Ok(Type::Array(Box::new(self.ty(element, has_block, message)?)));
        }
        let is_name = word.starts_with(|first: char| first.is_ascii_uppercase());
        if is_name && has_block {
            return Ok(Type::Struct(self.structure(word.to_owned(), message)?));
        }
        if has_block {
            return Err(format!("`{word}` has no fields: its line does not end in `{{`"));
        }
        match word {
            "uuid" => Ok(Type::Uuid),
            "string" => Ok(Type::String),
            "bytes" => Ok(Type::Bytes),
            "records" => Ok(Type::Records),
            _ if NUMBERS.contains(&word) => Ok(Type::Number(word.into())),
            _ if is_name => Err(format!("the structure `{word}` needs its fields: end the line in `{{`")),
            _ => Err(format!("there is no type `{word}`")),
        }
    }
}

/// The words of a line that are still to be read.
struct Words<'a, 'b> {
    words: &'b [&'a str],
}

impl<'a> Words<'a, '_> {
    fn next(&mut self, what: &str) -> Result<&'a str, String> {
        let (first, rest) = self.words.split_first().ok_or_else(|| format!("the line ends, but {what} is missing"))?;
        self.words = rest;
        Ok(first)
    }

    fn expect(&mut self, word: &str) -> Result<(), String> {
        let found = self.next(&format!("`{word}`"))?;
        if found == word { Ok(()) } else { Err(format!("`{word}` should stand where `{found}` is")) }
    }

    fn key(&mut self) -> Result<i16, String> {
        self.expect("key")?;
        number(self.next("the API key")?)
    }

    fn end(&self) -> Result<(), String> {
        self.words.first().map_or(Ok(()), |extra| Err(format!("`{extra}` is one word too many")))
    }
}

fn number<N: std::str::FromStr>(word: &str) -> Result<N, String> {
    word.parse().map_err(|_| format!("`{word}` is not a number that fits here"))
}

/// `3`, `3-12`, or `3+` for 3 to the last version of the message. Within the message, where there is one.
fn range(word: &str, message: Option<Range>) -> Result<Range, String> {
    let range = match (word.strip_suffix('+'), word.split_once('-'), message) {
        (Some(first), _, Some(message)) => Range { first: number(first)?, last: message.last },
        (Some(_), _, None) => return Err(format!("`{word}`: a message's own versions have an end, as in `0-4`")),
        (None, Some((first, last)), _) => Range { first: number(first)?, last: number(last)? },
        (None, None, _) => Range { first: number(word)?, last: number(word)? },
    };
    if range.first > range.last {
        return Err(format!("`{word}` has no version in it"));
    }
    if message.is_some_and(|message| !message.contains(range)) {
        return Err(format!("`{word}` goes beyond the versions of the message"));
    }
    Ok(range)
}
