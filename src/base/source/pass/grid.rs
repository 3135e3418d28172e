//! Cells put together from parts, where units do not begin and end with them.

use super::{cell_len, Cell, Content};
use crate::base::source::Pool;

/// Puts cells together where units do not begin and end with them.
pub(super) struct Grid<'a> {
    pub(super) size: u64,
    pub(super) pool: &'a Pool,
    pub(super) open: Option<Cell>,
}

impl Grid<'_> {
    /// Add the part that comes next; the cell, when it is whole.
    pub(super) fn add(&mut self, part: &Cell) -> Option<Cell> {
        let mut cell = self.open.take().unwrap_or(Cell {
            offset: part.offset,
            len: 0,
            content: Content::Unread,
        });
        let whole = cell_len(cell.offset, self.size);
        match &part.content {
            Content::Unread => {}
            Content::Zero if matches!(cell.content, Content::Zero) || cell.len == 0 => {
                cell.content = Content::Zero;
            }
            content => {
                if !matches!(cell.content, Content::Bytes(_)) {
                    cell.content = Content::Bytes(self.pool.zeroed(whole));
                }
                if let (Content::Bytes(to), Content::Bytes(from)) = (&mut cell.content, content) {
                    if let Some(to) = to.get_mut(cell.len..cell.len.saturating_add(part.len)) {
                        to.copy_from_slice(from);
                    }
                }
            }
        }
        cell.len = cell.len.saturating_add(part.len);
        if cell.len < whole {
            self.open = Some(cell);
            return None;
        }
        Some(cell)
    }
}
