//! Keeps the addresses of targets that are names: each is looked up when its records expire.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use runtime::clock;

use super::resolver::Resolver;
use crate::balance::registry::Registry;

/// How often the queue of names is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Looks names up for ever.
pub(super) async fn look_up(registry: Arc<Registry>, resolver: Rc<Resolver>) {
    loop {
        let due = registry.due_names(clock::now_us());
        let more = !due.is_empty();
        for name in due {
            let (registry, resolver) = (Arc::clone(&registry), Rc::clone(&resolver));
            tokio::task::spawn_local(async move {
                let answer = resolver.look_up(&name.host).await;
                registry.found(&name, &answer);
            });
        }
        if more {
            tokio::task::yield_now().await;
            continue;
        }
        let _news = tokio::time::timeout(LOOK, registry.news()).await;
    }
}
