//! Where in the file a piece of a text value is.

use std::ops::Range;

use super::{Node, Style};

/// For each byte of a text value, the bytes of the file that say its character.
pub struct Alignment(Vec<(usize, usize)>);

impl Alignment {
    /// Lays a value beside its notation in the file.
    ///
    /// Blanks and line breaks are taken for equal, because folding and indentation change them.
    /// `None` when the two don't fit, which no notation of YAML or JSON does.
    pub fn of(file: &str, node: &Node) -> Option<Self> {
        let super::Kind::Text(text) = &node.kind else {
            return None;
        };
        let source = file.get(node.span.clone())?;
        let content = match text.style {
            // Behind the line with the `|`.
            Style::Block if source.starts_with(['|', '>']) => source.find('\n')? + 1,
            Style::Block | Style::Plain => 0,
            Style::Single | Style::Double => 1,
        };
        let mut units = Units {
            source,
            at: content,
            style: text.style,
        };
        let start = node.span.start;
        let mut places = Vec::with_capacity(text.value.len() + 1);
        let mut last = (start + content, start + content);
        for char in text.value.chars() {
            if !char.is_whitespace() {
                loop {
                    let (place, found) = units.next()?;
                    if found == char {
                        last = (start + place, start + units.at);
                        break;
                    }
                    if !found.is_whitespace() {
                        return None;
                    }
                }
            }
            places.extend(std::iter::repeat_n(last, char.len_utf8()));
        }
        places.push(last);
        Some(Self(places))
    }

    /// The place in the file of a range of the value.
    pub fn place(&self, range: Range<usize>) -> Range<usize> {
        let at = |index: usize| self.0.get(index).or(self.0.last()).copied();
        let (start, _) = at(range.start).unwrap_or_default();
        // The end of what belongs to it, so that no indentation is swallowed behind it.
        let (_, end) = at(range.end.saturating_sub(1)).unwrap_or_default();
        start..end.max(start)
    }
}

/// The characters that a notation stands for, with their places.
struct Units<'a> {
    source: &'a str,
    at: usize,
    style: Style,
}

impl Iterator for Units<'_> {
    type Item = (usize, char);

    fn next(&mut self) -> Option<(usize, char)> {
        let place = self.at;
        let rest = self.source.get(place..)?;
        let char = rest.chars().next()?;
        self.at += char.len_utf8();
        match (self.style, char) {
            (Style::Single, '\'') => {
                self.at += 1;
                rest.starts_with("''").then_some((place, '\''))
            }
            (Style::Double, '"') => None,
            (Style::Double, '\\') => self.escape(place),
            _ => Some((place, char)),
        }
    }
}

impl Units<'_> {
    /// What stands behind a backslash.
    fn escape(&mut self, place: usize) -> Option<(usize, char)> {
        let letter = self.source.get(self.at..)?.chars().next()?;
        self.at += letter.len_utf8();
        let digits = match letter {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        let char = match letter {
            '0' => '\0',
            'a' => '\u{7}',
            'b' => '\u{8}',
            't' => '\t',
            'n' => '\n',
            'v' => '\u{B}',
            'f' => '\u{C}',
            'r' => '\r',
            'e' => '\u{1B}',
            'N' => '\u{85}',
            '_' => '\u{A0}',
            'L' => '\u{2028}',
            'P' => '\u{2029}',
            _ if digits > 0 => self.code(digits)?,
            // A quote, a backslash, a slash, a blank; or a line break that is not meant.
            other => other,
        };
        Some((place, char))
    }

    /// A character by its number; above the first 65,536, JSON needs two numbers for it.
    fn code(&mut self, digits: usize) -> Option<char> {
        let high = self.hex(digits)?;
        if !(0xD800..0xDC00).contains(&high) {
            return char::from_u32(high);
        }
        self.at += self
            .source
            .get(self.at..)?
            .starts_with("\\u")
            .then_some(2)?;
        let low = self.hex(4)?.checked_sub(0xDC00)?;
        char::from_u32(0x10000 + ((high - 0xD800) << 10) + low)
    }

    fn hex(&mut self, digits: usize) -> Option<u32> {
        let text = self.source.get(self.at..self.at + digits)?;
        self.at += digits;
        u32::from_str_radix(text, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::read, *};

    /// What the file says in the place of a piece of the value at `v`.
    fn shown<'f>(file: &'f str, piece: &str) -> &'f str {
        let docs = read(file).unwrap().documents;
        let node = docs[0].get("v").unwrap();
        let start = node.text().unwrap().find(piece).unwrap();
        let alignment = Alignment::of(file, node).unwrap();
        &file[alignment.place(start..start + piece.len())]
    }

    #[test]
    fn a_piece_is_found_in_every_notation() {
        for file in [
            "v: |\n  {\"ä\":\n     5432}\nw: 1\n",
            "v: |2-\n    {\"ä\":\n     5432}\n",
            "v: >-\n  {\"ä\":\n\n  5432}\n",
            "v: '{\"ä\": ''\n   5432}'\n",
            "v: \"{\\\"\\u00e4\\\":\\n\\\n   5432}\"\n",
            "{\"v\": \"{\\\"\\ud83d\\ude00\\\":\\n 5432}\"}",
            "v: a plain\n  5432 text\n",
        ] {
            assert_eq!(shown(file, "5432"), "5432", "{file}");
        }
    }

    #[test]
    fn an_escaped_piece_is_shown_as_it_was_written() {
        assert_eq!(shown("v: \"a \\\"b\\\" c\"\n", "\"b\""), "\\\"b\\\"");
    }
}
