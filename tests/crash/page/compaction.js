/** Calls back when the engine begins to exchange records for a merged one: it is the only one that removes records singly. */
export function watchCompaction(onCompaction) {
  const remove = IDBObjectStore.prototype.delete;
  let last;
  IDBObjectStore.prototype.delete = function (key) {
    if (this.name === "entities" && typeof key === "number" && this.transaction !== last) {
      last = this.transaction;
      onCompaction();
    }
    return remove.call(this, key);
  };
}
