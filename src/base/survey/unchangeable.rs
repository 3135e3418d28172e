//! What nobody can change on a base, not even root, and the first boot has to. Only a base that can be edited is judged.

use std::sync::Arc;

use super::{window, SurveyError};
use crate::base::layout::Layout;
use crate::base::BaseRefusal;
use crate::edit::block::ReadAt;
use crate::edit::fs::ext4;
use crate::edit::tree::{CardPath, Volume};

/// What the first boot has to change: useradd and cloud-init write these files again, beside the old ones, and make others
/// in these folders.
const CHANGED: [&str; 25] = [
    "etc",
    "etc/default",
    "etc/default/locale",
    "etc/group",
    "etc/group-",
    "etc/gshadow",
    "etc/gshadow-",
    "etc/localtime",
    "etc/passwd",
    "etc/passwd-",
    "etc/shadow",
    "etc/shadow-",
    "etc/ssh",
    "etc/ssh/sshd_config.d",
    "etc/subgid",
    "etc/subuid",
    "etc/sudoers.d",
    "etc/systemd/system",
    "home",
    "root",
    "usr/lib/locale",
    "var",
    "var/lib",
    "var/lib/cloud",
    "var/log",
];

/// Files and folders that nobody can change, not even root (chattr(1)), and that the first boot has to. What palmfarm
/// replaces is a new file without such an attribute, so only the folder of that matters.
pub(super) fn refusals<B>(image: &Arc<B>, layout: &Layout) -> Result<Vec<BaseRefusal>, SurveyError>
where
    B: ReadAt + ?Sized + 'static,
{
    let paths = CHANGED
        .into_iter()
        .map(CardPath::new)
        .collect::<Result<Vec<_>, _>>()?;
    let found = ext4::unchangeable(window(Arc::clone(image), layout, Volume::Root)?, &paths);
    Ok(found
        .into_iter()
        .map(|(path, attribute)| BaseRefusal::Unchangeable { path, attribute })
        .collect())
}
