use metrics::Unit;

use super::*;

#[test]
fn what_is_recorded_is_rendered_and_in_the_table() {
    let exporter = install().unwrap();
    answered("refund", "refund_exceeds_charge");
    request_took("refund", Duration::from_millis(3));
    drop((in_flight(), connection("admin")));
    accept_paused("admin");
    connection_cut("drain");
    settle_clamped();
    redis_called("due", Instant::now());
    redis_failed("corrupt");
    writeback_lag(3, Duration::from_secs(2), false);
    writeback_posted(5, 1);
    writeback_failed();
    writeback_stopped(1);
    writeback_uncompensated();
    shards_attached(1, 2);
    recovered("behind");
    recovery_lost(3);
    hold_expired("charged");
    repaired("held");
    unloaded(2);
    policy_reloaded("stale");
    degraded(true);
    degraded_grant();
    trusted_grant();
    trusted_ended(1);
    spooled(2);
    spool_replayed("refused");
    credits_owed(2);
    credit_refused();
    let text = exporter.render();
    assert!(text.contains(r#"quotad_requests_total{verb="refund",code="refund_exceeds_charge"} 1"#), "{text}");
    assert!(text.contains(r#"quotad_request_seconds_bucket{verb="refund",le="0.003"}"#), "{text}");
    for metric in METRICS {
        assert!(text.contains(&format!("# HELP {} {}", metric.name, metric.help)), "{}", metric.name);
    }
    for line in text.lines().filter(|line| line.starts_with("# TYPE")) {
        let name = line.split(' ').nth(2).unwrap();
        assert!(METRICS.iter().any(|metric| metric.name == name), "{name} is not in the table");
    }
}

#[test]
fn names_say_what_they_are() {
    for metric in METRICS {
        assert!(metric.name.starts_with("quotad_"));
        assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
        assert_eq!(metric.unit == Unit::Seconds, metric.name.ends_with("_seconds"), "{}", metric.name);
    }
    for code in crate::quota::verdict::Code::ALL {
        assert!(CODES.contains(&code.as_str()), "{}", code.as_str());
    }
}
