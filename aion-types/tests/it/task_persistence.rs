//! Task persistence: the worked number and where each term comes from.

use aion_types::{Composition, PersistenceSummary, Reference, TaskEvidence};

#[test]
fn worked_number() {
    let evidence = TaskEvidence {
        messages: vec![(10, 2.0), (30, 2.0)],
        accepted_steps: 3,
        steps: 4,
        tokens_used: 800,
        token_budget: 1_000,
        delusion_nats: 0.3,
        blocked_children: 1,
        completed_children: 4,
        children: vec![0.9, 1.4],
        composition: Composition::Series,
        ..TaskEvidence::default()
    };
    let task = evidence.persistence().unwrap();
    assert!((task.ratio - 1.125).abs() < 1e-12);
    assert!((task.prob.get() - 0.529_411_8).abs() < 5e-8);
    assert_eq!(task.factors.entropic_tax(), 0.8);
}

#[test]
fn a_task_to_which_nothing_happened_is_neutral() {
    let task = TaskEvidence::default().persistence().unwrap();
    assert_eq!((task.ratio, task.prob.get()), (1.0, 0.5));
}

#[test]
fn messages_count_by_their_tokens() {
    let mut evidence = TaskEvidence::default();
    for ratios in [vec![4.0], vec![1.0, 1.0, 1.0]] {
        evidence.push_message(
            &PersistenceSummary::of(&ratios, Reference::Uniform)
                .unwrap()
                .unwrap(),
        );
    }
    let whole = PersistenceSummary::of(&[4.0, 1.0, 1.0, 1.0], Reference::Uniform)
        .unwrap()
        .unwrap();
    assert!((evidence.persistence().unwrap().ratio - whole.r_harm).abs() < 1e-12);
}

#[test]
fn the_tax_has_a_floor_and_bad_health_is_refused() {
    let idle = TaskEvidence {
        token_budget: 1_000_000,
        tokens_used: 1,
        ..TaskEvidence::default()
    };
    assert_eq!(idle.persistence().unwrap().factors.entropic_tax(), 0.05);
    let sick = TaskEvidence {
        service_health: 0.0,
        ..TaskEvidence::default()
    };
    assert!(sick.persistence().is_err());
}
