//! A task's story for people.

use aion_loop::{CallStatus, StepReport};
use aion_types::TaskPersistence;

use crate::run::{RunOutcome, RunReport};
use crate::workspace::ChangeKind;

/// The longest argument shown, in characters.
const SHOWN_CHARS: usize = 160;

/// One step: the calls with their arguments, what changed, R of the message, the price.
pub fn step(step: &StepReport) -> String {
    let mut text = String::new();
    for call in &step.calls {
        let arguments = serde_json::Value::Object(call.arguments.clone()).to_string();
        text.push_str(&format!(
            "step {:<2} {} {}\n",
            step.step,
            call.tool,
            clip(&arguments)
        ));
        if call.status != CallStatus::Succeeded {
            text.push_str(&format!("        not done: {}\n", clip(&call.answer)));
        }
    }
    if let Some(refused) = &step.refused {
        text.push_str(&format!("step {:<2} refused: {}\n", step.step, clip(refused)));
        text.push_str(&format!("        the model said: {}\n", clip(&step.text)));
    } else if step.calls.is_empty() {
        text.push_str(&format!("step {:<2} says: {}\n", step.step, clip(&step.text)));
    }
    let changed = step.diff.render(4);
    if changed.is_empty() {
        text.push_str("        nothing changed\n");
    }
    for line in changed.lines() {
        text.push_str(&format!("        {line}\n"));
    }
    text.push_str(&format!("        {}", measures(step)));
    text
}

fn measures(step: &StepReport) -> String {
    let ratio = step.persistence.as_ref().map_or_else(
        || "R not reported".to_owned(),
        |r| format!("R {:.2} (least {:.2})", r.r_harm, r.r_min),
    );
    let price = step
        .price
        .map_or_else(|| "no price".to_owned(), |p| format!("price {:.3}", p.get()));
    let tokens = step.usage.total().unwrap_or(0);
    let seconds = step.step_ms as f64 / 1e3;
    format!("{ratio} · {price} · {tokens} tokens · {seconds:.1} s")
}

/// What came of the task.
pub fn report(report: &RunReport) -> String {
    let mut lines = vec![format!("{}  {}", outcome_word(report.outcome), report.reason)];
    if let Some(persistence) = &report.persistence {
        lines.push(equation(persistence));
    }
    let p = |p: Option<aion_types::Prob>| p.map_or_else(|| "-".to_owned(), |p| format!("{:.3}", p.get()));
    lines.push(format!(
        "p        before {}  after {}",
        p(report.p_before),
        p(report.p_after)
    ));
    for bet in &report.bets {
        let gain = bet.gain_bits.get();
        let said = format!("said {:.3} in {} forecasts", bet.p_last.get(), bet.forecasts);
        lines.push(format!(
            "bits     {gain:+.3}  {:<14} {said}",
            bet.forecaster.as_str()
        ));
    }
    for change in &report.trust {
        let (before, after) = (change.before.get(), change.after.get());
        lines.push(format!(
            "trust    {:<14} {before} -> {after} mT",
            change.who.as_str()
        ));
    }
    for change in &report.files {
        lines.push(format!(
            "file     {} {} ({} bytes)",
            sign(change.kind),
            change.path,
            change.bytes
        ));
    }
    if report.files.is_empty() {
        lines.push("file     none changed".to_owned());
    }
    lines.push(format!(
        "used     {} of {} tokens, {} of {} steps, {:.1} s",
        report.tokens,
        report.budget.tokens,
        report.model_calls,
        report.budget.steps,
        report.work_ms as f64 / 1e3
    ));
    lines.push(place(report));
    lines.join("\n")
}

fn place(report: &RunReport) -> String {
    if report.applied {
        return "applied  the changes were carried back".to_owned();
    }
    format!("copy     {}", report.workspace.display())
}

/// `R_T = Psi (R_msg eta) / (tax (1 + D + Gamma)) Phi` with its numbers.
fn equation(task: &TaskPersistence) -> String {
    let f = &task.factors;
    let gain = format!(
        "R_msg {:.3} x eta {:.2}",
        f.power_income(),
        f.coupling_efficiency()
    );
    let loss = format!(
        "tax {:.3} x (1 + D {:.2} + Gamma {:.2})",
        f.entropic_tax(),
        f.delusion(),
        f.fatigue()
    );
    let (ratio, p) = (task.ratio, task.prob.get());
    let (shelter, substrate) = (f.shelter(), f.substrate());
    format!("R_T      {ratio:.3} = Psi {shelter:.2} x ({gain}) / ({loss}) x Phi {substrate:.2}; p = {p:.3}")
}

/// The outcome in capitals.
pub fn outcome_word(outcome: RunOutcome) -> &'static str {
    match outcome {
        RunOutcome::Success => "SUCCESS",
        RunOutcome::Failed => "FAILED",
        RunOutcome::Cancelled => "CANCELLED",
        RunOutcome::Paused => "PAUSED",
    }
}

fn sign(kind: ChangeKind) -> char {
    match kind {
        ChangeKind::Created => '+',
        ChangeKind::Modified => '~',
        ChangeKind::Deleted => '-',
    }
}

/// One line of bounded length without control characters: what a model writes must not steer a terminal.
fn clip(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(SHOWN_CHARS)
        .collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_writes_cannot_steer_the_terminal() {
        assert_eq!(clip("a\u{1b}[2Jb\nc"), "a [2Jb c");
        assert_eq!(clip(&"x".repeat(500)).chars().count(), SHOWN_CHARS + 1);
    }
}
