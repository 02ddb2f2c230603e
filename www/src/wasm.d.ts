/** What the build puts in place of an import of a file: its address, relative to the script. */
declare module "*.wasm" {
  const address: string;
  export default address;
}
