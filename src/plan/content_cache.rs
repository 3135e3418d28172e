//! What the plan must know of a file's content, found out once for each file: hashing one may take a second and looking
//! through an image more, and a farm can name one file thousands of times. Pure, as all of the plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::farm::lxd_image::{self, ImageError, Shape};
use crate::sha256::Sha256Sum;

/// Contents by where they lie in memory. Each is held, so that no other comes to lie there.
#[derive(Default)]
pub struct ContentCache {
    digests: BTreeMap<usize, (Arc<[u8]>, String)>,
    shapes: BTreeMap<usize, (Arc<[u8]>, Shape)>,
}

impl ContentCache {
    /// SHA-256 as 64 hexadecimal digits.
    pub fn sha256(&mut self, content: &Arc<[u8]>) -> String {
        let digest = || (Arc::clone(content), Sha256Sum::of(content).to_string());
        let (_, digest) = self.digests.entry(place(content)).or_insert_with(digest);
        digest.clone()
    }

    /// The shape of an image file.
    ///
    /// # Errors
    /// It is not one.
    pub fn shape(&mut self, content: &Arc<[u8]>) -> Result<Shape, ImageError> {
        if let Some((_, shape)) = self.shapes.get(&place(content)) {
            return Ok(shape.clone());
        }
        let shape = lxd_image::look(content)?;
        self.shapes
            .insert(place(content), (Arc::clone(content), shape.clone()));
        Ok(shape)
    }
}

fn place(content: &Arc<[u8]>) -> usize {
    content.as_ptr().addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_content_is_looked_at_once() {
        let mut seen = ContentCache::default();
        let mut squashfs = b"hsqs".to_vec();
        squashfs.resize(96, 0);
        squashfs[40] = 96;
        let image: Arc<[u8]> = squashfs.as_slice().into();
        for content in [&image, &Arc::clone(&image), &squashfs.as_slice().into()] {
            assert_eq!(seen.shape(content).unwrap(), Shape::Squashfs);
            assert_eq!(seen.sha256(content), Sha256Sum::of(&squashfs).to_string());
        }
        assert_eq!((seen.shapes.len(), seen.digests.len()), (2, 2));
        let other: Arc<[u8]> = b"x"[..].into();
        assert_eq!(seen.sha256(&other), Sha256Sum::of(b"x").to_string());
        assert!(seen.shape(&other).is_err());
    }
}
