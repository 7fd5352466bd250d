//! How many port calls a process may still make before it dies: every further one fails.

use std::sync::Mutex;

/// Shared by the fakes of a scene.
#[derive(Default)]
pub struct Budget(Mutex<State>);

#[derive(Default)]
struct State {
    /// `None`: as many as it likes.
    left: Option<u32>,
    /// The call that finds none left is done all the same, but its answer is lost.
    lose_answer: bool,
    is_spent: bool,
}

/// A call that fails, before or after it was done.
pub struct Dead;

impl Budget {
    pub fn set(&self, left: Option<u32>, lose_answer: bool) {
        *self.0.lock().unwrap() = State { left, lose_answer, is_spent: false };
    }

    /// Whether a call failed since the budget was set.
    pub fn is_spent(&self) -> bool {
        self.0.lock().unwrap().is_spent
    }

    /// Before a call: whether its answer will be lost.
    pub fn enter(&self) -> Result<bool, Dead> {
        let mut state = self.0.lock().unwrap();
        match state.left {
            None => Ok(false),
            Some(left) if left > 0 => {
                state.left = Some(left - 1);
                Ok(false)
            }
            Some(_) if state.lose_answer && !state.is_spent => {
                state.is_spent = true;
                Ok(true)
            }
            Some(_) => {
                state.is_spent = true;
                Err(Dead)
            }
        }
    }
}
