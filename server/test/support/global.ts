/**
 * What the whole test run shares: `node --test --test-global-setup=server/test/support/global.ts`. Node calls these two
 * in the runner, before the first test process and after the last, whether the tests passed or not.
 */
import { buildPages } from '../../../pages/build.ts'
import { CLUSTER_TEMPLATE, CLUSTER_URL, startTestCluster, type TestCluster } from './database.ts'

let cluster: TestCluster | undefined

export async function globalSetup(): Promise<void> {
  await buildPages(line => void process.stdout.write(`${line}\n`))
  cluster = await startTestCluster()
  process.env[CLUSTER_URL] = cluster.url
  process.env[CLUSTER_TEMPLATE] = cluster.template
}

export async function globalTeardown(): Promise<void> {
  await cluster?.stop()
}
