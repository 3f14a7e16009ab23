//! Listeners that are delivered, and replaced, while Envoy runs.

use std::fs;

use super::{Bootstrap, places::Folder};

/// A bootstrap whose listener is delivered from a folder.
pub struct Delivered {
    folder: Folder,
    pub bootstrap: Bootstrap,
}

impl Delivered {
    /// Delivers the listener of a shipped bootstrap.
    pub fn first(listener: &Bootstrap) -> Self {
        let folder = Folder::new();
        let (bootstrap, _) = listener.clone().split(&folder);
        let delivered = Self { folder, bootstrap };
        delivered.put(listener);
        delivered
    }

    /// Delivers the listener of another bootstrap.
    pub fn put(&self, other: &Bootstrap) {
        let (_, listener) = other.clone().split(&self.folder);
        let new = self.folder.path().join("new.yaml");
        fs::write(&new, listener).expect("written");
        fs::rename(new, self.folder.path().join("lds.yaml")).expect("delivered");
    }
}
