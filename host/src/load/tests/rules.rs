//! One test per rule of a tick: repetition, ramps, cars that take less, wallboxes met for the first time, alarms.

use super::super::{
    Alarm, Charger, CircuitId, Line, Metering, Milliamps, Mode, OrderKind, PerPhase, Phase, Plan, Reason, Sample, Site,
    State, minimums, plan,
};
use super::{circuit, evse, site, waiting};
use crate::site::{Connector, Measured, Moment};

/// A site whose wallboxes accept every command at once and whose cars draw what `draws` makes of what they are told.
struct Loop {
    site: Site,
    state: State,
    now: u64,
    plan: Plan,
    /// Every command: when, to whom, how much, why.
    sent: Vec<(u64, usize, i64, OrderKind)>,
    draws: fn(i64) -> i64,
    accepts: bool,
    /// Current of the house on each phase; `None`: the meter says nothing.
    house: Option<i64>,
}

impl Loop {
    fn new(ampere: i64, chargers: Vec<Charger>) -> Self {
        let mut main = circuit("main", None, ampere);
        let failsafe = PerPhase::all(Milliamps(ampere * 1_000));
        main.metering = Metering::Metered { sample: None, stale_after_ms: 10_000, failsafe };
        Self {
            site: site(vec![main], chargers),
            state: State::default(),
            now: 0,
            plan: Plan::default(),
            sent: Vec::new(),
            draws: |told| told,
            accepts: true,
            house: Some(0),
        }
    }

    fn run(&mut self, seconds: u64) -> &mut Self {
        for _ in 0..seconds {
            self.now += 1_000;
            let at = Moment(self.now);
            let told = |site: &Site, number: usize| site.chargers[number].accepted.map_or(0, |told| told.value.0);
            for number in 0..self.site.chargers.len() {
                let drawn = (self.draws)(told(&self.site, number));
                let charger = &mut self.site.chargers[number];
                let on = |phase| if charger.uses(phase) { Some(Milliamps(drawn)) } else { Some(Milliamps(0)) };
                charger.measured = Some(Sample { current: PerPhase::from_fn(on), at });
            }
            if let Some(house) = self.house {
                let all = |phase| self.site.chargers.iter().map(|charger| charger.draws()[phase]).sum::<Milliamps>();
                let shown = Sample { current: PerPhase::from_fn(|phase| Some(Milliamps(house) + all(phase))), at };
                if let Metering::Metered { sample, .. } = &mut self.site.circuits[0].metering {
                    *sample = Some(shown);
                }
            }
            self.plan = plan(&mut self.state, &self.site, at);
            for order in self.plan.commands.clone() {
                let number = usize::try_from(order.device.number()).unwrap() - 1;
                self.sent.push((self.now, number, order.current.0, order.kind));
                if self.accepts {
                    self.site.chargers[number].accepted = Some(Measured { value: order.current, at });
                }
            }
        }
        self
    }

    fn granted(&self, number: usize) -> i64 {
        self.plan.chargers[&evse(number + 1)].granted.0
    }

    fn reason(&self, number: usize) -> &Reason {
        &self.plan.chargers[&evse(number + 1)].reason
    }
}

fn line(phase: Phase) -> Line {
    Line { circuit: "main".into(), phase: Some(phase) }
}

fn car() -> Charger {
    waiting(1, "main", &Phase::ALL, 16)
}

#[test]
fn a_car_starts_with_its_minimum_and_goes_up_in_steps_of_five_seconds() {
    let mut one = Loop::new(35, vec![car()]);
    one.run(60);
    let raises: Vec<_> = one.sent.iter().filter(|sent| sent.3 == OrderKind::Raise).map(|s| (s.0, s.2)).collect();
    assert_eq!(raises.iter().map(|raise| raise.1).collect::<Vec<_>>(), [6_000, 11_000, 16_000]);
    assert!(raises.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 5_000), "{raises:?}");
    assert_eq!(one.reason(0), &Reason::OwnMaximum);
}

#[test]
fn what_stands_is_repeated_at_a_third_of_the_lease() {
    let mut one = Loop::new(35, vec![car()]);
    one.run(120);
    let after: Vec<u64> = one.sent.iter().filter(|sent| sent.3 == OrderKind::Refresh).map(|sent| sent.0).collect();
    assert!(after.len() >= 7 && after.windows(2).skip(1).all(|pair| pair[1] - pair[0] == 10_000), "{after:?}");
}

#[test]
fn what_is_not_accepted_is_repeated_sooner_and_named() {
    let mut one = Loop::new(35, vec![car()]);
    one.accepts = false;
    one.run(11);
    assert_eq!(one.sent.iter().map(|sent| (sent.0, sent.2)).collect::<Vec<_>>(), [(1_000, 0), (6_000, 0), (11_000, 0)]);
    assert_eq!(one.reason(0), &Reason::Ramp);
    one.run(4);
    assert_eq!(one.reason(0), &Reason::NotAccepting);
    assert_eq!(one.plan.alarms, [Alarm::NotAccepting(evse(1))]);
}

#[test]
fn a_reduction_waits_for_no_timer() {
    let mut one = Loop::new(20, vec![car()]);
    one.run(40);
    assert_eq!(one.granted(0), 16_000);
    one.house = Some(9_000);
    one.run(1);
    assert_eq!((one.granted(0), one.reason(0)), (11_000, &Reason::Emergency(line(Phase::L1))));
    // Once the car has obeyed and the samples agree about the house, the reason is the limit.
    one.run(9);
    assert_eq!(one.reason(0), &Reason::Limit(line(Phase::L1)));
    // The house is quiet again, but the car goes up only when that has lasted.
    one.house = Some(0);
    one.run(22);
    assert_eq!((one.granted(0), one.reason(0)), (11_000, &Reason::WaitsForRelease(line(Phase::L1))));
    one.run(20);
    assert_eq!(one.granted(0), 16_000);
}

#[test]
fn a_reduction_that_nobody_accepted_frees_nothing() {
    let mut one = Loop::new(20, vec![car()]);
    one.run(40);
    // Nothing is drawn, so that only the ledger can say what may be drawn.
    (one.house, one.accepts, one.draws) = (Some(10_000), false, |_| 0);
    one.run(10);
    assert_eq!(one.granted(0), 10_000);
    one.run(30);
    assert_eq!(one.plan.chargers[&evse(1)].counted, PerPhase::all(Milliamps(16_000)));
    one.accepts = true;
    one.run(20);
    assert!(one.plan.chargers[&evse(1)].counted[Phase::L1] <= Milliamps(10_000));
}

#[test]
fn an_unknown_phase_counts_on_all_three() {
    let mut unknown = car();
    unknown.phases = None;
    let others = Phase::ALL.into_iter().zip(2..).map(|(phase, number)| waiting(number, "main", &[phase], 16));
    let site = site(vec![circuit("main", None, 20)], std::iter::once(unknown).chain(others).collect());
    let plan = plan(&mut State::default(), &site, Moment(1_000));
    assert!(plan.chargers.values().all(|charger| charger.share == Milliamps(10_000)), "{:?}", plan.chargers);
}

#[test]
fn nothing_left_below_the_minimum_is_a_pause() {
    let mut one = Loop::new(20, vec![car()]);
    one.house = Some(15_000);
    one.run(20);
    assert_eq!((one.granted(0), one.reason(0)), (0, &Reason::NotAdmitted(line(Phase::L1))));
}

#[test]
fn a_silent_meter_leaves_what_the_failsafe_leaves() {
    let mut one = Loop::new(20, vec![car()]);
    one.run(40);
    one.house = None;
    one.run(11);
    assert_eq!((one.granted(0), one.reason(0)), (0, &Reason::MeterStale("main".into())));
    assert_eq!(one.plan.alarms, [Alarm::MeterStale("main".into())]);
}

#[test]
fn a_cable_limits_and_too_thin_a_cable_stops() {
    let mut thin = car();
    thin.cable = Some(Milliamps(13_000));
    let mut one = Loop::new(35, vec![thin]);
    one.run(40);
    assert_eq!((one.granted(0), one.reason(0)), (13_000, &Reason::Cable));
    one.site.chargers[0].cable = Some(Milliamps(5_000));
    one.run(1);
    assert_eq!(one.granted(0), 0);
}

#[test]
fn what_somebody_forbids_is_paused_at_once_and_frees_only_what_has_gone_down() {
    let mut two = Loop::new(20, vec![car(), waiting(2, "main", &Phase::ALL, 16)]);
    two.run(60);
    assert_eq!([two.granted(0), two.granted(1)], [10_000, 10_000]);
    two.site.chargers[0].allowed = Some(Milliamps(0));
    (two.accepts, two.draws) = (false, |_| 10_000);
    two.run(1);
    assert_eq!((two.granted(0), two.reason(0)), (0, &Reason::Forbidden));
    assert_eq!(two.sent.last(), Some(&(61_000, 0, 0, OrderKind::Reduce)));
    // It has not obeyed: what it may still draw is not given to the other one.
    two.run(9);
    assert_eq!((two.plan.chargers[&evse(1)].counted, two.granted(1)), (PerPhase::all(Milliamps(10_000)), 10_000));
    (two.accepts, two.draws) = (true, |told| told);
    two.run(60);
    assert_eq!([two.granted(0), two.granted(1)], [0, 16_000]);
    two.site.chargers[0].allowed = None;
    two.run(90);
    assert_eq!([two.granted(0), two.granted(1)], [10_000, 10_000]);
}

#[test]
fn what_somebody_allows_is_the_most_and_less_than_the_minimum_is_nothing() {
    let mut one = Loop::new(35, vec![car()]);
    one.site.chargers[0].allowed = Some(Milliamps(8_500));
    one.run(40);
    assert_eq!((one.granted(0), one.reason(0)), (8_500, &Reason::Restricted));
    one.site.chargers[0].allowed = Some(Milliamps(5_999));
    one.run(1);
    assert_eq!((one.granted(0), one.reason(0)), (0, &Reason::Forbidden));
    // When nobody manages any more, it stays forbidden.
    assert_eq!(minimums(&one.state, &one.site, Moment(one.now)), [(evse(1), Milliamps(0))]);
}

#[test]
fn without_a_vehicle_nothing_is_reserved() {
    let mut empty = car();
    empty.connector = Connector::Available;
    let mut faulty = waiting(2, "main", &Phase::ALL, 16);
    faulty.connector = Connector::Fault;
    let mut three = Loop::new(16, vec![empty, faulty, waiting(3, "main", &Phase::ALL, 16)]);
    three.run(60);
    assert_eq!((three.reason(0), three.reason(1)), (&Reason::NoVehicle, &Reason::NotAvailable));
    assert_eq!([0, 1, 2].map(|number| three.granted(number)), [0, 0, 16_000]);
}

#[test]
fn a_car_that_takes_less_gives_the_rest_back_until_it_wants_more() {
    let mut two = Loop::new(24, vec![car(), waiting(2, "main", &Phase::ALL, 16)]);
    // The battery of both is nearly full: no more than 7 A are drawn.
    two.draws = |told| told.min(7_000);
    two.run(180);
    assert_eq!((two.granted(0), two.reason(0)), (9_000, &Reason::TakesLess));
    two.draws = |told| told;
    two.run(90);
    assert_eq!([two.granted(0), two.granted(1)], [12_000, 12_000]);
}

#[test]
fn what_cars_take_beyond_their_limit_is_not_shared_out() {
    let mut two = Loop::new(25, vec![car(), waiting(2, "main", &Phase::ALL, 16)]);
    two.draws = |told| if told > 0 { told + 900 } else { 0 };
    two.run(90);
    let shares: Vec<i64> = two.plan.chargers.values().map(|plan| plan.share.0).collect();
    assert_eq!((shares, two.granted(0), two.granted(1)), (vec![11_600, 11_600], 11_600, 11_600));
    // While it is on its way to a lower current, its habit counts and not what it still draws.
    two.house = Some(5_000);
    two.run(1);
    assert_eq!((two.granted(0), two.granted(1)), (9_100, 9_100));
}

#[test]
fn a_full_car_leaves_its_place_to_one_that_charges() {
    // Room for one: the first is plugged in and draws nothing.
    let mut two = Loop::new(10, vec![car(), waiting(2, "main", &Phase::ALL, 16)]);
    two.draws = |_| 0;
    two.run(60);
    assert!(two.granted(0) >= 6_000 && two.granted(1) == 0);
    two.run(60);
    assert!(two.granted(0) == 0 && two.granted(1) >= 6_000, "{:?}", two.plan.chargers);
    // Nobody can see whether it wants to charge now; after a quarter of an hour it may ask again. The other one draws
    // nothing either and is behind it by then.
    two.run(15 * 60);
    assert!(two.sent.iter().any(|sent| sent.0 > 300_000 && sent.1 == 0 && sent.2 >= 6_000), "{:?}", two.sent);
}

#[test]
fn a_wallbox_is_met_with_the_most_it_may_draw_unless_it_says_that_it_is_off() {
    let unmetered = |follows: Option<i64>| {
        let mut first = car();
        first.follows = follows.map(Milliamps);
        let site = site(vec![circuit("main", None, 20)], vec![first, waiting(2, "main", &Phase::ALL, 16)]);
        let plan = plan(&mut State::default(), &site, Moment(1_000));
        plan.chargers[&evse(1)].counted[Phase::L1].0
    };
    assert_eq!(unmetered(None), 16_000);
    assert_eq!(unmetered(Some(10_000)), 10_000);
    assert_eq!(unmetered(Some(0)), 0);
}

#[test]
fn what_charges_already_may_go_on_and_what_waits_must_wait() {
    let mut charging = car();
    charging.connector = Connector::Charging;
    charging.measured = Some(Sample { current: PerPhase::all(Some(Milliamps(9_500))), at: Moment(900) });
    let site = site(vec![circuit("main", None, 32)], vec![charging, waiting(2, "main", &Phase::ALL, 16)]);
    let plan = plan(&mut State::default(), &site, Moment(1_000));
    let orders: Vec<_> = plan.commands.iter().map(|order| (order.current.0, order.kind)).collect();
    assert_eq!(orders, [(9_500, OrderKind::Reduce), (0, OrderKind::Reduce)]);
}

#[test]
fn a_limit_that_the_wallbox_reports_above_ours_counts() {
    let mut one = Loop::new(35, vec![car()]);
    one.run(40);
    one.site.chargers[0].follows = Some(Milliamps(20_000));
    one.run(1);
    assert_eq!(one.plan.chargers[&evse(1)].counted[Phase::L1], Milliamps(20_000));
}

#[test]
fn a_long_overload_lowers_the_limit_for_five_minutes() {
    // The car does not obey at all: 4 A above 20 A, that is 20 %, are too long after less than a minute.
    let mut one = Loop::new(20, vec![car()]);
    one.run(40);
    one.house = Some(8_000);
    one.draws = |_| 16_000;
    one.run(60);
    assert!(one.plan.alarms.contains(&Alarm::NearTrip(line(Phase::L2))), "{:?}", one.plan.alarms);
    assert!(one.plan.alarms.contains(&Alarm::NotFollowing(evse(1))));
    assert_eq!(one.plan.circuits[&"main".into()].limit[Phase::L2], Milliamps(16_000));
    (one.house, one.draws) = (Some(0), |told| told);
    one.run(4 * 60);
    assert_eq!(one.plan.circuits[&"main".into()].limit[Phase::L2], Milliamps(16_000));
    one.run(60);
    assert_eq!(one.plan.circuits[&"main".into()].limit[Phase::L2], Milliamps(20_000));
    assert_eq!(one.plan.alarms, []);
}

#[test]
fn an_overload_that_no_pause_ends_is_named() {
    let mut one = Loop::new(20, vec![car()]);
    one.run(40);
    one.house = Some(21_000);
    one.run(2);
    assert_eq!(one.granted(0), 0);
    assert_eq!(one.plan.alarms, Phase::ALL.map(|phase| Alarm::Overload(line(phase))));
}

#[test]
fn circuits_that_do_not_exist_or_hang_below_themselves_give_nothing() {
    let mut circuits = vec![circuit("a", Some("b"), 35), circuit("b", Some("a"), 35), circuit("main", None, 35)];
    circuits.push(circuit("orphan", Some("nowhere"), 35));
    let cars = ["a", "nowhere", "orphan", "main"].into_iter().enumerate();
    let chargers = cars.map(|(number, name)| waiting(number + 1, name, &Phase::ALL, 16)).collect();
    let plan = plan(&mut State::default(), &site(circuits, chargers), Moment(1_000));
    assert_eq!(plan.alarms, [1, 2, 3].map(|number| Alarm::NoCircuit(evse(number))));
    assert!([1, 2, 3].iter().all(|number| plan.chargers[&evse(*number)].reason == Reason::NoCircuit));
    assert_eq!(plan.commands.iter().map(|order| order.device.clone()).collect::<Vec<_>>(), [evse(4)]);
    assert_eq!(plan.chargers[&evse(4)].share, Milliamps(16_000));
}

#[test]
fn observing_remembers_nothing_that_it_told() {
    let mut one = Loop::new(35, vec![car()]);
    one.run(40);
    one.site.mode = Mode::Observe;
    one.run(1);
    assert_eq!((one.plan.commands.len(), one.reason(0)), (0, &Reason::Observe));
    // Whatever somebody else told the wallbox meanwhile, the first command takes it over.
    one.site.mode = Mode::Manage;
    one.run(1);
    assert_eq!(one.plan.commands.iter().map(|order| order.kind).collect::<Vec<_>>(), [OrderKind::Reduce]);
}

#[test]
fn minimums_are_left_only_as_far_as_they_fit() {
    let mut chargers: Vec<Charger> = (1..=4).map(|number| waiting(number, "main", &Phase::ALL, 16)).collect();
    chargers[0].connector = Connector::Available;
    chargers[1].reachable = false;
    chargers[3].priority = 2;
    let site = site(vec![circuit("main", None, 30)], chargers);
    let left = minimums(&State::default(), &site, Moment(1_000));
    // The silent one may draw 16 A; 14 A are left for two.
    assert_eq!(left, [(evse(4), Milliamps(6_000)), (evse(1), Milliamps(6_000)), (evse(3), Milliamps(0))]);
}

#[test]
fn reasons_and_alarms_are_sentences() {
    let main = CircuitId::from("main");
    assert_eq!(Reason::Limit(line(Phase::L2)).to_string(), "limit of main L2");
    assert_eq!(
        Reason::NotAdmitted(Line { circuit: main, phase: None }).to_string(),
        "waits: too little left on main (all phases)"
    );
    assert_eq!(Alarm::NotFollowing(evse(3)).to_string(), "E3 draws more than it was told");
    assert_eq!(
        [Milliamps(6_049), Milliamps(-250), Milliamps(-20)].map(|ma| ma.to_string()),
        ["6.0 A", "-0.3 A", "0.0 A"]
    );
}
