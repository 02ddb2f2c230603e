/** A row of the fields and the size of the imported ones, for the inserts that are measured. */
export function newRow(index) {
  const now = Date.now();
  return {
    title: `written by this page, ${index}`,
    done: false,
    priority: index % 5,
    project: `p${index % 200}`,
    created_at: now,
    updated_at: now,
    assignee: `u${index % 500}`,
    body: "a body of the length the imported rows have, so no cheaper",
  };
}
