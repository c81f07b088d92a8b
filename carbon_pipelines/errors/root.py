"""The base of every error, and the tree of them all.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them.

CarbonPipelinesError                  (``retryable`` says whether the same call may succeed later)
├── CatalogError                      a declaration is missing or contradicts itself
│   ├── DeclarationError              declarations hold mistakes; each names its file and line
│   ├── UnknownTableError             nothing declared has that name
│   └── DeclarationExistsError        a declaration would be overwritten
├── SettingsError                     a service's address is missing or unusable
│   ├── SettingMissingError           a variable is not set and no embedded stack stands in
│   └── SettingUnknownError           a variable has a value without meaning
├── EmbeddedError                     a local service does not start, answer or stop
│   ├── StackBusyError                (retryable) another command works on the same stack
│   ├── StackMissingError             nothing was started in that home yet
│   ├── StateDamagedError             a file of the stack's home cannot be understood
│   ├── PortOccupiedError             a remembered port belongs to someone else's process
│   ├── PartEndedError                a part's process ended while it was starting
│   ├── PartSilentError               a part's process runs and does not answer
│   ├── PartRefusedError              a part's own data does not know the stack's password
│   ├── PartUnstoppableError          a part's process outlives SIGKILL
│   ├── DownloadError                 (retryable) an artifact could not be had
│   ├── SupersetInstallError          (retryable) Superset's environment could not be made
│   ├── PostgresBinariesError         the server binaries are missing or of another version
│   └── OsUserError                   no OS user can run PostgreSQL here
├── SourceError                       PostgreSQL cannot be captured as declared
│   ├── SourceUnreachableError        (retryable) PostgreSQL does not answer
│   ├── SourceAuthenticationError     PostgreSQL refuses our role or password
│   ├── SourceDatabaseMissingError    the server has no database of that name
│   ├── SourcePrivilegeError          our role lacks a right that capture needs
│   │   └── TablePrivilegeError       our role lacks a right on one table
│   ├── SourceServerError             version, encoding or recovery: not a server we can capture
│   ├── WalLevelError                 wal_level is not logical
│   ├── NoFreeSlotError               all replication slots are taken
│   ├── NoFreeSenderError             (retryable) all WAL senders are taken
│   ├── SourceIdentityError           another database answers behind the same name
│   ├── TableMissingError             a declared table does not exist
│   ├── TableKindError                a view, foreign or unlogged table sends no changes
│   │   └── PartitionedTableError     a connector sends its partitions to topics of their own
│   ├── PartitionDeclaredError        a partition is declared beside its root
│   ├── KeyMissingError               mode mirror, and PostgreSQL has no replica identity
│   ├── KeyMismatchError              the declared key is not the replica identity
│   ├── GeneratedKeyError             a key column that replication never sends
│   ├── TableNotPublishedError        (retryable) a table has not joined its publication yet
│   ├── PublicationConflictError      our publication's name belongs to something else
│   ├── SlotLostError                 the slot's WAL is gone
│   ├── SlotMismatchError             our slot's name belongs to something else
│   ├── SlotInUseError                (retryable) a stranger reads our slot
│   ├── OpenTransactionError          (retryable) an older transaction does not end
│   ├── SourceLockedError             (retryable) a lock on a table was not granted in time
│   ├── RelationRewrittenError        (retryable) a table changed under its reader
│   ├── SnapshotGoneError             (retryable) a source snapshot was closed under its readers
│   └── CopyUnreadableError           the source holds text that is not UTF-8
├── StreamError                       a topic cannot be written or read as promised
│   ├── StreamUnavailableError        (retryable) Kafka does not answer
│   ├── StreamForbiddenError          Kafka lacks a right for our user, or does not know it
│   ├── CaptureRunningError           (retryable) another process holds the slot
│   ├── CaptureFencedError            another producer took our place
│   ├── DrainTimeoutError             (retryable) capture did not pass the marker in time
│   ├── EventTooLargeError            an event is larger than Kafka accepts
│   ├── UndecodableChangeError        a message of the slot is not what pgoutput promises
│   ├── ProgressFormatError           the progress was written by another format version
│   ├── ProgressLostError             a topic that others rely on was emptied or created again
│   ├── CaptureOutdatedError          a published table is not declared in this process
│   ├── ReplicationRefusedError       PostgreSQL will not send changes from the slot
│   ├── CaptureOptionsChangedError    the slot would be read with other options than before
│   ├── WrongDatabaseError            another database answers behind the same name
│   ├── TimelineDivergedError         a failover undid changes that Kafka already holds
│   ├── WalGapError                   the slot has moved past what Kafka holds
│   ├── SlotHealLimitError            the slot loses changes again and again
│   ├── TopicMissingError             a topic does not exist
│   ├── TopicRefusedError             Kafka refuses to create or delete a topic
│   ├── TopicReplacedError            a topic was deleted and created again
│   ├── OffsetGapError                retention has passed the offset to go on from
│   ├── OffsetBeyondEndError          a topic ends before the offset to go on from
│   ├── SchemaVersionMissingError     (retryable) the DDL topic lacks versions that events name
│   ├── (errors/debezium.py)          what a Debezium connector does or wrote is of no use
│   └── MalformedEnvelopeError        a message of a topic is not an envelope
├── LakeError                         an Iceberg table refused a change
│   ├── LakeUnavailableError          (retryable) the catalog or the object store does not answer
│   ├── LakeAuthenticationError       the catalog or the object store refuses our credentials
│   ├── TokenUnavailableError         (retryable) who gives tokens for Trino does not answer
│   ├── TokenRefusedError             we are given no token for Trino
│   ├── UnsupportedTypeError          a PostgreSQL type has no Iceberg type
│   ├── ColumnRoleError               a column's type cannot be in key, partitioning or order
│   ├── UnrepresentableValueError     a value has no place in its column's type
│   ├── DeclaredColumnError           a column to partition or sort by is not in the source
│   ├── PartitionColumnNewError       a copy is to be partitioned by a column it brings along
│   ├── UnsupportedSchemaChangeError  a DDL cannot be followed in place
│   ├── ProtectedColumnMissingError   no column has a name that is declared "protect: drop"
│   ├── PartitionTruncatedError       partitions of a table were truncated, not the whole table
│   ├── UnrecordedShapeError          events have columns that the DDL history does not describe
│   ├── ProgressMissingError          the progress topic says nothing
│   ├── UnkeyedChangeError            an update or delete does not carry the declared key
│   ├── SourceTableAwayError          (retryable) a source table was renamed or dropped
│   ├── SourceTableReplacedError      a source table was dropped and another took its name
│   ├── WrongSourceError              a table was made from another PostgreSQL
│   ├── StreamGapError                changes between table and topic are missing
│   ├── MissingPriorValueError        an unchanged TOAST value has no row to be taken from
│   ├── HistoryKeptError              a copy anew would drop the history of a table's rows
│   ├── HistoryColumnError            a source column has the name of one that a history adds
│   ├── ModeChangedError              a table is declared with another mode than it was written with
│   ├── SequenceNumberError           a foreign commit set the table's sequence numbers back
│   ├── CommitConflictError           (retryable) another writer committed first
│   ├── FollowRunningError            (retryable) another process merges a table continuously
│   ├── CommitUnknownError            (retryable) whether a commit landed could not be told
│   ├── StateMissingError             no snapshot of the table carries our progress
│   ├── StateFormatError              the progress was written by another format version
│   ├── TableMovedError               (retryable) rows read for a repair no longer fit the table
│   ├── TableParkedError              a table stands still until it is released or copied anew
│   ├── TableNotParkedError           a table to release is not parked
│   ├── LayoutColumnGoneError         a column that a table is partitioned or sorted by is gone
│   ├── RecopyLimitError              a table would have to be copied anew once too often
│   ├── TableNotCopiedError           a table has no published copy yet
│   ├── PriorDeadLetterError          a value stands in an event that is a dead letter
│   │   └── RowNeededError            a dead letter takes values from the row as it is
│   ├── DeadLetterExpiredError        Kafka no longer tells what came after a dead letter
│   ├── DeadLetterMissingError        the dead letters' table lacks one that a table names
│   └── NoSuchDeadLetterError         a dead letter to be dropped is none, or belongs to a row
├── MaintenanceError                  upkeep of a table was refused or did not come to its end
│   ├── CompactionError               data files could not be written again
│   │   ├── CompactionInvariantError  what was written is not what was read
│   │   ├── EngineMissingError        a table is Trino's to compact and nothing says where that is
│   │   ├── OptimizeFailedError       Trino refused to optimize a table
│   │   │   └── OptimizeInterruptedError (retryable) it did not answer, or others committed first
│   │   ├── OptimizedRowsError        what Trino committed has another number of rows
│   │   ├── SourceFileDamagedError    a data file is not what its manifest says
│   │   ├── SourceFileMissingError    a file that a table's snapshot lists is not there
│   │   └── TargetSizeError           a table's declared file size is no size
│   ├── ErasureError                  a person's rows were not erased, or not all of them
│   │   ├── KeyInSourceError          the source has the key
│   │   ├── DeletionNotMergedError    (retryable) the lake has not merged its deletion
│   │   ├── ErasureDateError          a date that cannot be promised
│   │   ├── ErasureKeyError           a key that is none of the table's
│   │   ├── ErasureNothingError       nothing has the key
│   │   ├── ErasureReasonError        a reason that says the key
│   │   ├── ErasureLackedError        the table lacks events of the key
│   │   ├── ErasureLeftError          files that hold its rows cannot be written again
│   │   ├── ErasureUnreadableError    a data file cannot be read
│   │   └── ErasureUnfinishedError    (retryable) the date has come and something is left
│   ├── RetentionZeroError            a retention that would keep nothing
│   ├── RemovalForbiddenError         a table whose files nobody may remove
│   ├── MetadataFileMissingError      a manifest or manifest list is not there
│   ├── TableFilesMissingError        files that snapshots need are not there
│   ├── TableOverlapError             files of two tables lie under one prefix
│   ├── StalePointerError             (retryable) there is newer metadata than the catalog's
│   ├── SecondCatalogError            two catalogs write one table
│   ├── YoungOrphansError             a running writer may be about to commit the files
│   ├── CopyUnderWayError             (retryable) a first copy is writing files
│   ├── QuarantineMissingError        a table has no such quarantined files
│   ├── LeaseRefusedError             a lease that cannot be taken
│   ├── LeaseMissingError             a table has no lease of that name
│   ├── StoreInterruptedError         (retryable) the object store stopped answering midway
│   ├── StoreRefusedError             the object store refuses our keys
│   └── StoreUnknownError             a location in a kind of store that cannot be listed
├── QualityError                      a comparison could not be made
│   ├── NoConsistentPointError        (retryable) source and lake never stood at the same point
│   ├── ExpectationsMisfitError       expectations do not fit a table's columns
│   ├── LakeUnreadableError           the independent reader cannot read a table snapshot
│   ├── RunnerMissingError            who is to count expectations is not installed
│   ├── RunnerUnavailableError        (retryable) who is to count expectations does not answer
│   └── RepairRefusedError            differences that are not mended key by key
├── AlertsError                       people are not told of what is wrong, or would not be
│   ├── AlertmanagerMailError         Alertmanager cannot reach the declared mail server
│   ├── OwnersIncompleteError         who is told is not declared for every team
│   ├── OwnersMissingError            no file says who is told
│   ├── TeamUnknownError              nothing is declared of a team
│   └── TestNotSentError              receivers did not accept a test alert
├── CertificationError                what audited readers see could not be changed
│   ├── CertifiedMovedError           (retryable) somebody else moved the branch meanwhile
│   ├── CertifiedRefusedError         the branch cannot be moved to a snapshot
│   ├── NotCertifiedError             a table has no certified snapshot
│   └── RollbackRefusedError          the branch cannot be set back as asked
├── MartError                         a mart could not be built
│   ├── MartProjectError              a file of the dbt project cannot be right
│   ├── MartProjectMissingError       there is no dbt project
│   ├── MartSourceError               a mart reads a table that it cannot be built from
│   ├── MartTestsAloneError           a mart's tests cannot be run without building it
│   ├── UnknownMartError              the dbt project has no such mart
│   ├── MartBuildError                rows could not be made
│   ├── MartPublishError              (retryable) rows that passed their tests were not published
│   ├── MartTestsFailedError          rows fail a test, so that they were not published
│   ├── MartColumnTypeError           a column's type is none for marts
│   ├── MartCompileError              dbt does not compile the project
│   └── MartLineageError              what a mart's columns are made of cannot be found
├── ServingError                      what people look at could not be brought up to date
│   ├── ServiceUnavailableError       (retryable) a service does not answer
│   ├── ServiceAuthenticationError    a service refuses our user
│   ├── StatementRefusedError         a service refused a statement
│   ├── RedirectRefusedError          a redirect to where our password must not go
│   ├── LoadRefusedError              Doris did not take the rows of a load
│   ├── LoadUnfinishedError           (retryable) what became of a load is not known yet
│   ├── NotVisibleError               (retryable) other rows are shown than the snapshot's
│   ├── ViewRefreshError              a materialized view could not be refreshed
│   ├── ViewUnfinishedError           (retryable) a materialized view was not fresh in time
│   ├── ServedValueError              a value that the service cannot hold exactly
│   ├── ServedMartMissingError        a mart was never published
│   ├── TrinoAccessError              Trino refuses our user, or grants it too little
│   ├── ServedCatalogError            a catalog of a kind that Doris does not read
│   ├── SupersetLoginError            Superset refuses our user
│   ├── SupersetRefusedError          Superset refused a request
│   ├── DashboardFilesError           a dashboard's files cannot be understood
│   ├── DashboardImportError          Superset did not take a dashboard
│   ├── DashboardUnknownError         there is no dashboard of that name
│   ├── ChartFailedError              (retryable) a chart shows no data
│   └── DataHubError                  DataHub was not told what we know
│       ├── DataHubUnavailableError   (retryable) it does not answer
│       ├── DataHubAccessError        it refuses our token
│       ├── DataHubAnswerError        what answers is no DataHub, or one we do not know
│       ├── DataHubExportError        Superset's files cannot be understood
│       └── MetadataRefusedError      it refuses what it was told of something
├── ClusterError                      services in Kubernetes are not as they are declared
│   ├── ServiceGraphError             declared services contradict each other
│   ├── UnknownServiceError           no declared service has that name
│   ├── UnknownOverlayError           no overlay has that name
│   ├── OverlayMistakesError          an overlay contradicts the service graph
│   ├── OverlayMismatchError          the cluster was provisioned from another overlay
│   ├── ToolMissingError              kubectl or helm is missing or too old
│   ├── RenderError                   kubectl or helm cannot render
│   ├── ChartUnavailableError         (retryable) a chart cannot be had
│   ├── ObjectsMisfitError            rendered objects belong to no service
│   ├── NoClusterError                (retryable) no API server answers
│   ├── ClusterCredentialsError       the API server does not accept who we are
│   ├── ClusterVersionError           a cluster of a version that the manifests are not for
│   ├── ApiRefusalError               the API server refused a request
│   ├── NamespaceTerminatingError     (retryable) a namespace is being deleted
│   ├── CrdMissingError               a kind that nothing defines
│   ├── FieldConflictError            fields belong to other managers
│   ├── ObjectsRefusedError           the API server would refuse objects
│   ├── WebhookDownError              (retryable) an admission webhook does not answer
│   ├── DangerousPlanError            dangers that nobody accepted
│   ├── ProvisionLockedError          (retryable) somebody else changes the cluster
│   ├── LockLostError                 (retryable) our lock was not renewed in time
│   ├── ApplyStoppedError             (retryable) an object was refused midway
│   ├── ServiceNotReadyError          (retryable) a service does not become ready
│   ├── RevisionMissingError          nothing is recorded to go back to
│   ├── ScaleRefusedError             a number of pods that cannot be
│   ├── BackupFailedError             a backup before a removal did not succeed
│   └── DoctorError                   the doctor could not do what it was asked to
│       ├── KubectlMissingError       there is no kubectl here
│       ├── KubectlUnreachableError   (retryable) no API server answers
│       ├── KubectlCredentialsError   the API server does not accept our credentials
│       ├── KubectlForbiddenError     the API server does not let us look
│       ├── KubectlAnswerError        (retryable) kubectl failed otherwise
│       ├── UnknownEdgeError          no edge of the service graph is called so
│       ├── ProbeFailedError          the probe could not be run at one place
│       ├── RemedyRefusedError        a remedy was not begun
│       └── RemedyFailedError         (retryable) a remedy's command failed
└── DemoStageError                    a process of the demo failed
"""

from typing import ClassVar


class CarbonPipelinesError(Exception):
    """Base class; ``retryable`` says whether the same call may succeed later."""

    retryable: ClassVar[bool] = False
