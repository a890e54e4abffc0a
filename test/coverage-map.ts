/**
 * What `npm test` has to cover to the last branch, whichever test runs it: all that is published, but for what only a real S3
 * server can show. The long tests have one.
 */
export default () => 'plugins/**/!(s3-files).ts'
