//! A page of metrics.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// The labels of one series.
type Labels = Vec<(&'static str, String)>;

/// One page of metrics, made anew for each scrape from the counts that a program keeps anyway.
pub struct Exposition(Registry);

impl Exposition {
    /// An empty page; the prefix and `_` stand before each name.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self(Registry::with_prefix(prefix))
    }

    /// A counter, with a series for each of these labels; `_total` is added to its name.
    pub fn counter<const N: usize>(
        &mut self,
        name: &'static str,
        help: &str,
        series: impl IntoIterator<Item = ([(&'static str, String); N], u64)>,
    ) {
        let family = Family::<Labels, Counter>::default();
        for (labels, count) in series {
            if N == 0 {
                let alone = Counter::<u64>::default();
                alone.inc_by(count);
                return self.0.register(name, help, alone);
            }
            family.get_or_create(&labels.to_vec()).inc_by(count);
        }
        self.0.register(name, help, family);
    }

    /// A gauge, with a series for each of these labels.
    pub fn gauge<const N: usize>(
        &mut self,
        name: &'static str,
        help: &str,
        series: impl IntoIterator<Item = ([(&'static str, String); N], f64)>,
    ) {
        let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (labels, value) in series {
            if N == 0 {
                let alone = Gauge::<f64, AtomicU64>::default();
                alone.set(value);
                return self.0.register(name, help, alone);
            }
            family.get_or_create(&labels.to_vec()).set(value);
        }
        self.0.register(name, help, family);
    }

    /// A histogram that somebody else moves.
    pub fn histogram(&mut self, name: &'static str, help: &str, histogram: &Histogram) {
        self.0.register(name, help, histogram.clone());
    }

    /// Something constant; `_info` is added to its name.
    pub fn info(&mut self, name: &'static str, help: &str, labels: Vec<(&'static str, String)>) {
        self.0.register(name, help, Info::new(labels));
    }

    /// The page as OpenMetrics text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // A string takes everything, so that there is no error.
        encode(&mut text, &self.0).map_or_else(|_impossible| String::new(), |()| text)
    }
}

impl fmt::Debug for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exposition(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_openmetrics_text_to_its_end() {
        let mut page = Exposition::new("thing");
        page.counter("runs", "Runs", [([("end", "failed".to_owned()), ("reason", "AUTH_FAILED".to_owned())], 3)]);
        page.gauge("bytes", "Bytes", [([], 0.5)]);
        page.info("build", "Build", vec![("version", "1.2.3".to_owned())]);
        let text = page.text();
        for line in [
            "# TYPE thing_runs counter",
            "thing_runs_total{end=\"failed\",reason=\"AUTH_FAILED\"} 3",
            "thing_bytes 0.5",
            "thing_build_info{version=\"1.2.3\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
