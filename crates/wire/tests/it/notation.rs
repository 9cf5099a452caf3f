//! The notation of the schema: a mistake is named with its file and line.

#[expect(dead_code, reason = "the build script uses the rest")]
#[path = "../../build/notation.rs"]
mod reader;

use reader::{Range, Type, parse};

const GOOD: &str = "# One line.
# Another.

request Nap key 7 versions 2-5 flexible 4+ {
    hours    i16       default 8   # How long.
    dreams   [Dream]?  in 3-4 {
        title  string  null 5
        depth  i8      in 4+  tag 1
    }
}
";

#[test]
fn a_block_is_read() {
    let module = parse("nap", GOOD).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!((module.name.as_str(), module.doc.join("|").as_str()), ("nap", "One line.|Another."));
    let [message] = &*module.messages else { panic!("one message") };
    assert_eq!((message.body.name.as_str(), message.flexible), ("NapRequest", Some(4)));
    assert!(message.versions == Range { first: 2, last: 5 });
    let [hours, dreams] = &*message.body.fields else { panic!("two fields") };
    assert_eq!((hours.name.as_str(), hours.doc.as_str(), hours.default.as_deref()), ("hours", "How long.", Some("8")));
    assert!(hours.versions == message.versions && hours.nullable.is_none());
    assert!(dreams.versions == Range { first: 3, last: 4 } && dreams.nullable == Some(message.versions));
    let Type::Array(element) = &dreams.ty else { panic!("an array") };
    let Type::Struct(dream) = &**element else { panic!("of structures") };
    assert!(dream.fields[0].nullable == Some(Range { first: 5, last: 5 }));
    assert!(dream.fields[1].tag == Some(1) && dream.fields[1].versions == Range { first: 4, last: 5 });
}

#[test]
fn mistakes_are_named_with_their_line() {
    let cases = [
        ("request", "ask", 4, "a block starts with `request`, `response` or `data`, not `ask`"),
        ("key 7", "key x", 4, "`x` is not a number that fits here"),
        ("key 7 ", "", 4, "`key` should stand where `versions` is"),
        ("2-5", "2+", 4, "`2+`: a message's own versions have an end, as in `0-4`"),
        ("2-5", "5-2", 4, "`5-2` has no version in it"),
        ("4+ {", "4+", 4, "the line ends, but `{` is missing"),
        ("4+ {", "4+ { }", 4, "`}` is one word too many"),
        ("4+ {", "none {", 8, "`depth`: a message without a flexible version has no tags"),
        ("i16", "i17", 5, "there is no type `i17`"),
        ("i16", "Hour", 5, "the structure `Hour` needs its fields: end the line in `{`"),
        ("i16", "i16?", 5, "`hours`: a `i16` has no null of its own"),
        ("default 8", "defaults 8", 5, "`hours`: an attribute is in, null, tag, default or plain, not `defaults`"),
        ("default 8", "default", 5, "the line ends, but the value behind `default` is missing"),
        ("3-4", "1-4", 6, "`1-4` goes beyond the versions of the message"),
        ("[Dream]?", "[i32]", 6, "`i32` has no fields: its line does not end in `{`"),
        ("null 5", "default null", 7, "`title`: the default is null, but null is not allowed: write `string?`"),
        ("[Dream]", "[NapRequest]", 6, "the file has two structures `NapRequest`: give one of them a prefix"),
        ("depth", "title", 8, "`Dream` has two fields `title`"),
        ("    }\n}\n", "    }\n", 9, "the block `NapRequest` is not closed by `}`"),
    ];
    for (from, to, line, why) in cases {
        let error = parse("nap", &GOOD.replacen(from, to, 1)).err();
        assert_eq!(error, Some(format!("schema/nap.kafka:{line}: {why}")), "{from} → {to}");
    }
    assert!(parse("nap", "# nothing\n").is_err());
}
