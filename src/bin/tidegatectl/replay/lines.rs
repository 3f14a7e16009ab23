//! Lines of any file, bounded in length.

use std::io::{self, BufRead};

/// The longest line that is looked at, in bytes.
pub const MOST_BYTES: usize = 64 << 10;

/// Reads lines one after the other, of files of any size.
pub struct Lines<R> {
    reader: R,
    line: Vec<u8>,
    number: u64,
    read: u64,
}

/// One line.
pub struct Line<'a> {
    /// From 1.
    pub number: u64,
    /// Its text without the end; what is no UTF-8 is replaced. None when it is too long.
    pub text: Option<std::borrow::Cow<'a, str>>,
}

impl<R: BufRead> Lines<R> {
    /// Of a reader.
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            line: Vec::new(),
            number: 0,
            read: 0,
        }
    }

    /// The bytes that were read.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// The next line, if there is one. Memory: at most [`MOST_BYTES`] and the reader's.
    pub fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        let (mut any, mut whole) = (false, true);
        loop {
            let bytes = match self.reader.fill_buf() {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if bytes.is_empty() {
                break;
            }
            any = true;
            let end = bytes.iter().position(|&byte| byte == b'\n');
            let (part, used) = match end {
                Some(end) => (bytes.get(..end).unwrap_or_default(), end + 1),
                None => (bytes, bytes.len()),
            };
            if self.line.len() + part.len() <= MOST_BYTES {
                self.line.extend_from_slice(part);
            } else {
                whole = false;
            }
            self.reader.consume(used);
            self.read += used as u64;
            if end.is_some() {
                break;
            }
        }
        if !any {
            return Ok(None);
        }
        self.number += 1;
        let text = whole.then(|| String::from_utf8_lossy(self.line.trim_ascii_end()));
        Ok(Some(Line {
            number: self.number,
            text,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_the_next_is_read() {
        let file = [b"a\r\n", "x".repeat(MOST_BYTES + 1).as_bytes(), b"\n\nb"].concat();
        let mut lines = Lines::new(io::BufReader::with_capacity(10, file.as_slice()));
        let mut seen = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            seen.push((line.number, line.text.map(|text| text.into_owned())));
        }
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            seen,
            [(1, text("a")), (2, None), (3, text("")), (4, text("b"))]
        );
        assert_eq!(lines.read(), file.len() as u64);
    }
}
