//! What can be measured of one Rust file: lines of code with and without tests, `select!` without `biased`, structs
//! with many fields, traits with many methods. Works on tokens, so that comments and strings do not count as code.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// A line and what is at it.
pub(crate) type At = (usize, String);

/// One file, measured.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// Lines of code outside of `#[cfg(test)]`.
    pub(crate) code_lines: usize,
    /// Lines of code inside.
    pub(crate) test_lines: usize,
    /// `select!` without `biased`.
    pub(crate) unbiased: Vec<usize>,
    /// Structs (outside of tests) and how many fields they have.
    pub(crate) structs: Vec<(At, usize)>,
    /// Traits and how many methods they have.
    pub(crate) traits: Vec<(At, usize)>,
}

/// Measures a file.
///
/// # Errors
/// If it is no Rust.
pub(crate) fn measure(text: &str) -> syn::Result<Measured> {
    let tokens: TokenStream = text.parse()?;
    let file = syn::parse_file(text)?;
    let mut items = Items::default();
    items.visit_file(&file);
    let comments: Vec<bool> = text.lines().map(|line| line.trim_start().starts_with("//")).collect();
    let mut lines = BTreeSet::new();
    let mut unbiased = Vec::new();
    walk(tokens, &mut lines, &mut unbiased);
    // Doc comments are tokens too.
    lines.retain(|line| !comments[line - 1]);
    let in_tests = |line: &usize| items.tests.iter().any(|range| range.contains(line));
    let test_lines = lines.iter().filter(|line| in_tests(line)).count();
    items.structs.retain(|((line, _), _)| !in_tests(line));
    let code_lines = lines.len() - test_lines;
    Ok(Measured { code_lines, test_lines, unbiased, structs: items.structs, traits: items.traits })
}

/// Collects the lines that have tokens, and the lines of `select!` that are not biased.
fn walk(tokens: TokenStream, lines: &mut BTreeSet<usize>, unbiased: &mut Vec<usize>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for window in tokens.windows(3) {
        if let [TokenTree::Ident(name), TokenTree::Punct(bang), TokenTree::Group(body)] = window {
            let biased = matches!(body.stream().into_iter().next(), Some(TokenTree::Ident(first)) if first == "biased");
            if name == "select" && bang.as_char() == '!' && !biased {
                unbiased.push(name.span().start().line);
            }
        }
    }
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                if group.delimiter() != Delimiter::None {
                    lines.insert(group.span_open().start().line);
                    lines.insert(group.span_close().end().line);
                }
                walk(group.stream(), lines, unbiased);
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {
                lines.extend(token.span().start().line..=token.span().end().line);
            }
        }
    }
}

#[derive(Default)]
struct Items {
    tests: Vec<RangeInclusive<usize>>,
    structs: Vec<(At, usize)>,
    traits: Vec<(At, usize)>,
}

impl Items {
    /// Remembers where an item is if it is there for tests only.
    fn note(&mut self, attributes: &[syn::Attribute], item: &impl Spanned) {
        let is_test = |attribute: &syn::Attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
        };
        if attributes.iter().any(is_test) {
            let span = item.span();
            self.tests.push(span.start().line..=span.end().line);
        }
    }
}

impl<'ast> Visit<'ast> for Items {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.note(&item.attrs, item);
        visit::visit_item_mod(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.note(&item.attrs, item);
        visit::visit_item_fn(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.note(&item.attrs, item);
        visit::visit_item_impl(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.note(&item.attrs, item);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.note(&item.attrs, item);
        self.structs.push(((item.ident.span().start().line, item.ident.to_string()), item.fields.len()));
        visit::visit_item_struct(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        let methods = item.items.iter().filter(|item| matches!(item, syn::TraitItem::Fn(_))).count();
        self.traits.push(((item.ident.span().start().line, item.ident.to_string()), methods));
        visit::visit_item_trait(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"//! A header.

/// A doc comment.
struct S {
    a: u8, // a comment behind code
    /* a comment of its own */
}

async fn f() {
    let text = "two
lines";
    tokio::select! { biased; _ = a => {} }
    other! { tokio::select! { _ = a => {} } }
}

trait T { fn a(); fn b(); const C: u8; }

#[cfg(test)]
mod tests {
    struct Big { a: u8, b: u8 }
}
"#;

    #[test]
    fn lines_are_those_that_have_code() {
        let measured = measure(FILE).unwrap();
        assert_eq!(measured.code_lines, 10);
        assert_eq!(measured.test_lines, 4);
    }

    #[test]
    fn unbiased_selects_are_found_inside_other_macros_too() {
        assert_eq!(measure(FILE).unwrap().unbiased, [13]);
    }

    #[test]
    fn fields_and_methods_are_counted() {
        let measured = measure(FILE).unwrap();
        assert_eq!(measured.structs, [((4, "S".to_owned()), 1)]);
        assert_eq!(measured.traits, [((16, "T".to_owned()), 2)]);
    }
}
