//! How long a seed waits for something that may need its database. The servers are shared: another seed
//! may kill this one's at any time, and on a busy machine it takes long to recover. That is no fault of
//! quotad's, so the time counts from when the server answers again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{plan::Backend, sql::Servers};

/// However often the server goes away, a wait ends after so many times its length.
const MOST: u32 = 10;

#[derive(Clone)]
pub struct Patience {
    within: Duration,
    begun: Instant,
    /// Known to end not before this.
    until: Instant,
    /// `None`: a database without a server.
    server: Option<(Arc<Servers>, Backend)>,
}

impl Patience {
    /// Begins now.
    pub fn new(within: Duration, server: Option<(Arc<Servers>, Backend)>) -> Self {
        let begun = Instant::now();
        Self { within, begun, until: begun + within, server }
    }

    /// The same again, from now on.
    pub fn anew(&self) -> Self {
        Self::new(self.within, self.server.clone())
    }

    /// Whether it was long enough. The server is only asked when it seems so.
    pub fn is_over(&mut self) -> bool {
        if Instant::now() < self.until {
            return false;
        }
        if let Some((servers, backend)) = &self.server
            && self.begun.elapsed() < self.within * MOST
        {
            self.until = servers.answers_since(*backend) + self.within;
        }
        self.until <= Instant::now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_counts_from_when_the_database_answers_again() {
        let servers = Arc::<Servers>::default();
        servers.with(Backend::Postgres, |_| {});
        let within = Duration::from_millis(1500);
        let mut patience = Patience::new(within, Some((Arc::clone(&servers), Backend::Postgres)));
        let mut without = Patience::new(within, None);
        servers.kill(Backend::Postgres, within);
        assert!(without.is_over(), "the server was away for longer");
        let back = Instant::now();
        assert!(!patience.is_over(), "it has just come back");
        while !patience.is_over() {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(back.elapsed() > within / 2 && back.elapsed() < within * 4, "over after {:?}", back.elapsed());
    }
}
