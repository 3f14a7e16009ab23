//! Numbers of a record, from and to bytes.

use alloc::vec::Vec;
use core::{fmt, ops::RangeInclusive};

/// Why bytes are not a record of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryError {
    /// They do not begin as a record of this version does.
    Foreign,
    /// They are not as long as they say.
    Length,
    /// A number is outside of what it can be.
    Value,
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Foreign => "not a record of this version",
            Self::Length => "a record of the wrong length",
            Self::Value => "a record with a number that cannot be",
        })
    }
}

impl core::error::Error for MemoryError {}

/// Takes little-endian numbers from the front of bytes.
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take<const N: usize>(&mut self) -> Result<[u8; N], MemoryError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(MemoryError::Length)?;
        self.0 = rest;
        Ok(*head)
    }

    /// The next `length` bytes.
    pub fn slice(&mut self, length: usize) -> Result<&'a [u8], MemoryError> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(MemoryError::Length)?;
        self.0 = rest;
        Ok(head)
    }

    pub fn magic(&mut self, magic: [u8; 4]) -> Result<(), MemoryError> {
        match self.take::<4>() {
            Ok(found) if found == magic => Ok(()),
            _ => Err(MemoryError::Foreign),
        }
    }

    pub fn u8(&mut self) -> Result<u8, MemoryError> {
        self.take().map(u8::from_le_bytes)
    }

    pub fn u16(&mut self) -> Result<u16, MemoryError> {
        self.take().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, MemoryError> {
        self.take().map(u32::from_le_bytes)
    }

    pub fn u32s<const N: usize>(&mut self) -> Result<[u32; N], MemoryError> {
        let mut numbers = [0; N];
        for number in &mut numbers {
            *number = self.u32()?;
        }
        Ok(numbers)
    }

    pub fn u64(&mut self) -> Result<u64, MemoryError> {
        self.take().map(u64::from_le_bytes)
    }

    /// A number that lies in `range`, which a NaN never does.
    pub fn f64(&mut self, range: RangeInclusive<f64>) -> Result<f64, MemoryError> {
        let number = f64::from_le_bytes(self.take()?);
        if range.contains(&number) {
            Ok(number)
        } else {
            Err(MemoryError::Value)
        }
    }

    /// A number that lies in `range`, which a NaN never does.
    pub fn f32(&mut self, range: RangeInclusive<f32>) -> Result<f32, MemoryError> {
        let number = f32::from_le_bytes(self.take()?);
        if range.contains(&number) {
            Ok(number)
        } else {
            Err(MemoryError::Value)
        }
    }

    /// Yes or no.
    pub fn flag(&mut self) -> Result<bool, MemoryError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(MemoryError::Value),
        }
    }

    /// Nothing may follow.
    pub fn end(&self) -> Result<(), MemoryError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(MemoryError::Length)
        }
    }
}

/// Appends numbers as [`Reader`] takes them.
pub(crate) trait Put {
    fn put<const N: usize>(&mut self, bytes: [u8; N]);

    fn put_f64s<const N: usize>(&mut self, numbers: [f64; N]) {
        for number in numbers {
            self.put(number.to_le_bytes());
        }
    }

    fn put_u32s<const N: usize>(&mut self, numbers: [u32; N]) {
        for number in numbers {
            self.put(number.to_le_bytes());
        }
    }
}

impl Put for Vec<u8> {
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        self.extend_from_slice(&bytes);
    }
}
