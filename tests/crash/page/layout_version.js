// Before the package is loaded: which version of the layout it is to have, if it is built with more than one.

import { tell, wishes } from "./reports.js";

/** How often the database was upgraded in this page. */
export let upgrades = 0;

globalThis.layoutVersion = wishes.layout;
globalThis.onUpgrade = () => {
  upgrades += 1;
  void tell("moment", {});
};
