// Doing once what several changes of the same turn ask for.

/**
 * Gives what asks for `act`, which then runs once when the turn ends. Not in an animation frame: a window in the background
 * has none and should be right when it is looked at.
 */
export function oncePerTurn(act: () => void): () => void {
  let isPlanned = false;
  return () => {
    if (isPlanned) return;
    isPlanned = true;
    queueMicrotask(() => {
      isPlanned = false;
      act();
    });
  };
}
