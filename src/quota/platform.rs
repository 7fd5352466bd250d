//! Platform quotas: what an account may spend on one platform per day, week and month. They are no
//! rules of their own but a way to see and set some limits: those on cost, of one named platform and
//! all models, per day, week, month or 30 rolling days.
//!
//! What a quota counts therefore outlives it: a platform that is removed and added again finds its
//! usage, because the counter is named by what it counts.

use std::sync::Arc;

use super::{
    id::Platform,
    limit::{LIMITS_MAX, LIMITS_TOGETHER_MAX, Limit, Metric, Period},
};

/// One of the three spans of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Window {
    Daily,
    Weekly,
    Monthly,
}

impl Window {
    pub const ALL: [Window; 3] = [Window::Daily, Window::Weekly, Window::Monthly];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Window::Daily => "daily",
            Window::Weekly => "weekly",
            Window::Monthly => "monthly",
        }
    }
}

/// Which month a quota counts over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Month {
    /// From the first of the month in the account's time zone.
    #[default]
    #[serde(rename = "month")]
    Calendar,
    /// 30 days from the first use on, stepping whole periods.
    #[serde(rename = "rolling:2592000")]
    Rolling,
}

/// 30 days.
const ROLLING_MONTH: Period = Period::Rolling(2_592_000);

impl Month {
    #[must_use]
    pub fn period(self) -> Period {
        match self {
            Month::Calendar => Period::Month,
            Month::Rolling => ROLLING_MONTH,
        }
    }
}

/// Units per span: `None` is unlimited, `Some(0)` disabled, `Some(n)` a cap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    pub daily: Option<i64>,
    pub weekly: Option<i64>,
    pub monthly: Option<i64>,
}

impl Caps {
    #[must_use]
    pub fn of(&self, window: Window) -> Option<i64> {
        match window {
            Window::Daily => self.daily,
            Window::Weekly => self.weekly,
            Window::Monthly => self.monthly,
        }
    }

    /// Field by field: what `over` says, 0 included, else what is here.
    #[must_use]
    pub fn overlaid(self, over: Caps) -> Caps {
        Caps {
            daily: over.daily.or(self.daily),
            weekly: over.weekly.or(self.weekly),
            monthly: over.monthly.or(self.monthly),
        }
    }
}

/// The quota of one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformQuota {
    pub platform: Platform,
    pub caps: Caps,
}

/// Why quotas do not fit beside an account's other limits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    #[error("with these quotas the account would have more than {LIMITS_MAX} limits")]
    Account,
    #[error("with this quota more than {LIMITS_TOGETHER_MAX} limits would be of platform {0}")]
    Platform(Platform),
}

/// The span that a limit is a quota of; `None` for every other limit.
#[must_use]
pub fn window_of(limit: &Limit) -> Option<Window> {
    if limit.metric != Metric::Cost || &*limit.platform == "*" || &*limit.model != "*" {
        return None;
    }
    match limit.period {
        Period::Day => Some(Window::Daily),
        Period::Week => Some(Window::Weekly),
        Period::Month | ROLLING_MONTH => Some(Window::Monthly),
        Period::None | Period::Minute | Period::Hour | Period::Rolling(_) => None,
    }
}

/// The quotas of these limits, in the order in which their platforms come first.
#[must_use]
pub fn quotas_of(limits: &[Arc<Limit>]) -> Vec<PlatformQuota> {
    let mut quotas: Vec<PlatformQuota> = Vec::new();
    for limit in limits {
        let (Some(window), Ok(platform)) = (window_of(limit), Platform::new(&limit.platform)) else { continue };
        let place = quotas.iter().position(|quota| quota.platform == platform).unwrap_or_else(|| {
            quotas.push(PlatformQuota { platform, caps: Caps::default() });
            quotas.len() - 1
        });
        let caps = &mut quotas[place].caps;
        match window {
            Window::Daily => caps.daily = limit.cap,
            Window::Weekly => caps.weekly = limit.cap,
            Window::Monthly => caps.monthly = limit.cap,
        }
    }
    quotas
}

/// The limits with their quotas replaced by `quotas`; all others stay as they are, in their order. An
/// unlimited span gets its limit too, so that its usage is counted. A platform keeps the kind of month
/// it counts over, a new one takes `month`.
///
/// # Errors
/// [`NoRoom`] when an account cannot have that many limits.
pub fn with_quotas(limits: &[Arc<Limit>], quotas: &[PlatformQuota], month: Month) -> Result<Vec<Limit>, NoRoom> {
    let mut all: Vec<Limit> =
        limits.iter().filter(|limit| window_of(limit).is_none()).map(|limit| Limit::clone(limit)).collect();
    for quota in quotas {
        let platform = quota.platform.as_str();
        let monthly = month_of(limits, platform).unwrap_or(month);
        for window in Window::ALL {
            let period = match window {
                Window::Daily => Period::Day,
                Window::Weekly => Period::Week,
                Window::Monthly => monthly.period(),
            };
            let (model, metric, cap) = ("*".into(), Metric::Cost, quota.caps.of(window));
            all.push(Limit { platform: platform.into(), model, metric, period, cap });
        }
        let together = all.iter().filter(|limit| &*limit.platform == platform && &*limit.model == "*").count();
        if together > LIMITS_TOGETHER_MAX {
            return Err(NoRoom::Platform(quota.platform.clone()));
        }
    }
    if all.len() > LIMITS_MAX { Err(NoRoom::Account) } else { Ok(all) }
}

/// The kind of month that a platform's quota counts over now.
fn month_of(limits: &[Arc<Limit>], platform: &str) -> Option<Month> {
    let of_platform = |limit: &&Arc<Limit>| &*limit.platform == platform && window_of(limit) == Some(Window::Monthly);
    let periods = || limits.iter().filter(of_platform).map(|limit| limit.period);
    let calendar = periods().any(|period| period == Period::Month);
    if calendar { Some(Month::Calendar) } else { periods().next().map(|_| Month::Rolling) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(platform: &str, model: &str, metric: Metric, period: Period, cap: Option<i64>) -> Arc<Limit> {
        Arc::new(Limit { platform: platform.into(), model: model.into(), metric, period, cap })
    }

    fn quota(platform: &str, caps: [Option<i64>; 3]) -> PlatformQuota {
        let [daily, weekly, monthly] = caps;
        PlatformQuota { platform: Platform::new(platform).unwrap(), caps: Caps { daily, weekly, monthly } }
    }

    fn others() -> Vec<Arc<Limit>> {
        vec![
            limit("*", "*", Metric::Cost, Period::Day, Some(1)),
            limit("openai", "*", Metric::Tokens, Period::Day, Some(2)),
            limit("openai", "gpt-4o", Metric::Cost, Period::Day, Some(3)),
            limit("openai", "*", Metric::Cost, Period::Hour, Some(4)),
            limit("openai", "*", Metric::Cost, Period::Rolling(18_000), Some(5)),
            limit("openai", "*", Metric::Concurrency, Period::None, Some(6)),
        ]
    }

    fn shared(limits: Vec<Limit>) -> Vec<Arc<Limit>> {
        limits.into_iter().map(Arc::new).collect()
    }

    #[test]
    fn what_is_put_is_read_back_and_all_other_limits_stay() {
        let wanted = [quota("openai", [Some(10), None, Some(0)]), quota("gemini", [None; 3])];
        let limits = shared(with_quotas(&others(), &wanted, Month::Calendar).unwrap());
        assert_eq!(limits[..6], others());
        assert_eq!(limits.len(), 12, "an unlimited span is counted too");
        assert_eq!(quotas_of(&limits), wanted);
        let none = shared(with_quotas(&limits, &[], Month::Calendar).unwrap());
        assert_eq!(none, others(), "a full replacement by nothing removes the quotas alone");
        assert!(quotas_of(&none).is_empty());
    }

    #[test]
    fn a_quota_keeps_its_kind_of_month() {
        let wanted = [quota("openai", [None, None, Some(9)])];
        let rolling = shared(with_quotas(&[], &wanted, Month::Rolling).unwrap());
        assert_eq!(rolling[2].period, Period::Rolling(2_592_000));
        let again = shared(with_quotas(&rolling, &wanted, Month::Calendar).unwrap());
        assert_eq!(again, rolling);
        // Limits may name both months; the quota is one, and replacing it leaves one.
        let mut both = rolling;
        both.push(limit("openai", "*", Metric::Cost, Period::Month, Some(8)));
        let one = shared(with_quotas(&both, &wanted, Month::Rolling).unwrap());
        assert_eq!((one.len(), one[2].period, one[2].cap), (3, Period::Month, Some(9)));
    }

    #[test]
    fn a_single_limit_is_seen_as_a_quota() {
        let limits = [limit("openai", "*", Metric::Cost, Period::Week, Some(7))];
        assert_eq!(quotas_of(&limits), [quota("openai", [None, Some(7), None])]);
    }

    #[test]
    fn there_is_room_for_so_many_limits() {
        let many: Vec<PlatformQuota> = (0..32).map(|n| quota(&format!("p{n}"), [Some(1); 3])).collect();
        assert_eq!(with_quotas(&others(), &many, Month::Calendar), Err(NoRoom::Account));
        assert!(with_quotas(&others(), &many[..31], Month::Calendar).is_ok());
        let crowd: Vec<Arc<Limit>> =
            (1..=14).map(|n| limit("p0", "*", Metric::Tokens, Period::Rolling(n), None)).collect();
        assert_eq!(with_quotas(&crowd, &many[..1], Month::Calendar), Err(NoRoom::Platform(many[0].platform.clone())));
        assert!(with_quotas(&crowd[1..], &many[..1], Month::Calendar).is_ok());
    }

    #[test]
    fn the_upper_layer_wins_field_by_field_zero_included() {
        let under = Caps { daily: Some(10), weekly: Some(20), monthly: None };
        let over = Caps { daily: Some(0), weekly: None, monthly: None };
        assert_eq!(under.overlaid(over), Caps { daily: Some(0), weekly: Some(20), monthly: None });
    }
}
