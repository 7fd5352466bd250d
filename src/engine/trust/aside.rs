//! The trusted work in flight here, beside a call that asks Redis: the call leaves room for it.

use std::sync::Arc;

use smallvec::SmallVec;

use super::Work;
use crate::quota::{
    limit::{Limit, Metric},
    policy::{Admission, Group},
    verdict::LimitState,
};

/// Units that trusted work will take of what a call spends from.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Aside {
    pub(crate) account: i64,
    /// Of the call's key.
    pub(crate) key: i64,
    /// Of each of the call's groups.
    pub(super) groups: SmallVec<[i64; 2]>,
}

impl Aside {
    /// The call is about this work itself.
    pub(super) fn leave_out(&mut self, work: &Work, groups: &[Group]) {
        let admission = &work.ready.admission;
        self.account -= work.amount;
        if admission.allowance.is_some() {
            self.key -= work.amount;
        }
        for (of_group, group) in self.groups.iter_mut().zip(groups) {
            if admission.groups.iter().any(|of_work| of_work.field == group.field) {
                *of_group -= work.amount;
            }
        }
    }

    /// The admission with so much less to spend.
    pub(crate) fn lower(&self, admission: &Admission) -> Admission {
        let mut lowered = admission.clone();
        lowered.credit_limit -= self.account;
        lowered.allowance = lowered.allowance.map(|allowance| (allowance - self.key).max(0));
        self.lower_caps(&mut lowered.groups);
        lowered
    }

    /// The groups with lower caps on cost.
    pub(crate) fn lower_caps(&self, groups: &mut [Group]) {
        for (group, in_flight) in groups.iter_mut().zip(&self.groups) {
            for gauge in &mut group.gauges {
                if let (Metric::Cost, Some(cap), true) = (gauge.limit.metric, gauge.limit.cap, *in_flight > 0) {
                    let cap = Some((cap - in_flight).max(0));
                    gauge.limit = Arc::new(Limit { cap, ..Limit::clone(&gauge.limit) });
                }
            }
        }
    }

    /// Shows it as held, in the states of the call's gauges.
    pub(crate) fn show(&self, groups: &[Group], states: &mut [LimitState]) {
        let of_gauges =
            groups.iter().zip(&self.groups).flat_map(|(group, units)| group.gauges.iter().map(move |_| units));
        for (state, units) in states.iter_mut().zip(of_gauges) {
            if state.limit.metric == Metric::Cost {
                state.held += units;
            }
        }
    }
}
