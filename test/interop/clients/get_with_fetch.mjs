// Prints what is at a URL.
const response = await fetch(process.argv.at(-1))
if (!response.ok) throw new Error(`status ${response.status}`)
process.stdout.write(Buffer.from(await response.arrayBuffer()))
